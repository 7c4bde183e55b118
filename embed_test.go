package dewar_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A program that embeds dewar pays for what it imports, and never for what
// only tests need.
func TestEmbeddingBringsNoRedisAndNoTestCode(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the go command is not installed")
	}
	const module = "github.com/dewarcache/dewar"
	testOnly := []string{
		"testing", "testing/synctest", "net/http/httptest", "flag", module + "/dewartest",
		"pgregory.net/rapid", "github.com/alicebob/miniredis/v2",
	}
	redis := []string{"github.com/redis/go-redis/v9", module + "/redis", "github.com/fxamacker/cbor/v2"}
	engines := []string{"github.com/dgraph-io/ristretto/v2", "github.com/maypok86/otter/v2", module + "/memory"}
	for pkg, banned := range map[string][]string{
		module:                slices.Concat(testOnly, redis, engines, []string{"net", "net/http"}),
		module + "/memory":    slices.Concat(testOnly, redis),
		module + "/redis":     slices.Concat(testOnly, engines),
		module + "/dewartest": slices.Concat(redis, engines, testOnly[len(testOnly)-2:]),
	} {
		t.Run(strings.TrimPrefix(pkg, module), func(t *testing.T) {
			out, err := exec.Command("go", "list", "-deps", pkg).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, dep := range strings.Fields(string(out)) {
				for _, b := range banned {
					if dep == b || strings.Contains(b, ".") && strings.HasPrefix(dep, b+"/") {
						if !(b == module+"/redis" && pkg == b) {
							t.Errorf("it imports %s", dep)
						}
					}
				}
			}
		})
	}
}
