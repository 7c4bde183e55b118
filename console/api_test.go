package console

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

func TestCachesTellCountersAndQuantiles(t *testing.T) {
	c := newCache(t, dewar.Config[string, string]{Name: "videos", Track: 5})
	for range 3 {
		if _, err := c.Get(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	c.Dial().Turn(dewar.Turn{To: dewar.Elevated, Who: "anna", Why: "the final"})
	type list struct {
		Actions bool
		Dials   []struct {
			Level          int
			Name, Who, Why string
		}
		Caches []struct {
			ID, Name string
			Stats    struct {
				LocalHits, Loaded int
				Breaker           string
				LoadTime          struct{ Count, P99 float64 }
			}
		}
	}
	got := decoded[list](t, ask(Handler(c), "GET", "/api/caches", ""), http.StatusOK)
	if got.Actions || len(got.Caches) != 1 || len(got.Dials) != 1 {
		t.Fatalf("%+v", got)
	}
	one := got.Caches[0]
	if one.ID != "videos" || one.Stats.LocalHits != 2 || one.Stats.Loaded != 1 || one.Stats.Breaker != "none" ||
		one.Stats.LoadTime.Count != 1 || one.Stats.LoadTime.P99 <= 0 {
		t.Errorf("%+v", one)
	}
	if d := got.Dials[0]; d.Level != 4 || d.Name != "elevated" || d.Who != "anna" || d.Why != "the final" {
		t.Errorf("%+v", d)
	}
	if got := decoded[list](t, ask(Handler(c, Actions(anna)), "GET", "/api/caches", ""), http.StatusOK); !got.Actions {
		t.Error("actions are not told of")
	}
}

func TestACacheWhoseStatsPanicIsTheOnlyOneThatSuffers(t *testing.T) {
	sick := newFake("sick")
	sick.panics = true
	list := decoded[catalogue](t, ask(Handler(newFake("well"), sick), "GET", "/api/caches", ""), http.StatusOK)
	if list.Caches[0].Problem != "" || list.Caches[0].Stats == nil {
		t.Error("the well one suffers too")
	}
	if p := list.Caches[1].Problem; p != "Stats panicked: no stats today" {
		t.Errorf("the sick one says %q", p)
	}
}

func TestInspectTellsWhereAKeyIsAndHowOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, dewar.Config[string, string]{
			Name: "videos", TTL: 10 * time.Second, Jitter: -1, Track: 5, Stale: dewar.Stale{IfError: time.Minute},
			Remote: dewartest.NewRemote[string](),
		})
		defer c.Close()
		h := Handler(c)
		look := func() inspection {
			return decoded[inspection](t, ask(h, "GET", "/api/inspect?cache=videos&key=a%2Fb", ""), http.StatusOK)
		}
		if in := look(); in.Local != nil || in.Remote != nil || in.RemoteState != "absent" || in.Key != "a/b" || in.Source != "unknown" {
			t.Errorf("before it is loaded: %+v", in)
		}
		begun := time.Now()
		if _, err := c.Get(t.Context(), "a/b"); err != nil {
			t.Fatal(err)
		}
		c.KeepWarm("a/b")
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		in := look()
		if in.Local == nil || in.Remote == nil || in.Local.Age != "fresh" || in.RemoteState != "value" || in.Source != "reader" || !in.Pinned {
			t.Fatalf("after it was loaded: %+v", in)
		}
		at := func(s string) time.Duration {
			parsed, err := time.Parse(time.RFC3339, s)
			if err != nil {
				t.Fatal(err)
			}
			return parsed.Sub(begun).Round(10 * time.Millisecond)
		}
		if l := in.Local; at(l.Loaded) != 0 || at(l.Fresh) != 10*time.Second || at(l.Dead) != 70*time.Second || at(l.Due) <= 0 || at(l.Due) >= 10*time.Second {
			t.Errorf("the times of the entry: %+v", l)
		}
		c.LetGo("a/b")
		time.Sleep(15 * time.Second)
		if in := look(); in.Local.Age != "stale" || at(in.Now) != 15*time.Second {
			t.Errorf("after 15 s: %+v at %s", in.Local, in.Now)
		}
	})
}

func TestInspectTellsWhatIsKnownBesideTheError(t *testing.T) {
	f := newFake("videos")
	f.err = errors.New("redis: " + strings.Repeat("x", 2000))
	f.found = dewar.Inspection{
		RemoteState: "failed", Loading: true, Resting: 800 * time.Millisecond, RestsFor: errors.New("503"),
		Local: &dewar.EntryInfo{Age: "fresh", Negative: true, Size: 12},
	}
	in := decoded[inspection](t, ask(Handler(f), "GET", "/api/inspect?cache=videos&key=a", ""), http.StatusOK)
	if !in.Loading || in.Resting != 0.8 || in.RestsFor != "503" || !in.Local.Negative || in.Local.Due != "" || in.Local.Size != 12 || in.RemoteState != "failed" {
		t.Errorf("%+v %+v", in, in.Local)
	}
	if len(in.Error) != maxError+len("...") {
		t.Errorf("an error of %d bytes", len(in.Error))
	}
}

func TestInspectOfAClosedCacheSaysSo(t *testing.T) {
	c := newCache(t, dewar.Config[string, string]{Name: "videos"})
	c.Close()
	in := decoded[inspection](t, ask(Handler(c), "GET", "/api/inspect?cache=videos&key=a", ""), http.StatusOK)
	if in.Error != dewar.ErrClosed.Error() {
		t.Errorf("%+v", in)
	}
}

func TestWhatCannotBeAsked(t *testing.T) {
	h := Handler(newFake("videos"))
	for target, status := range map[string]int{
		"inspect?cache=videos&key=":                                 http.StatusOK, // the empty key is one
		"inspect?cache=videos":                                      http.StatusBadRequest,
		"inspect?cache=videos&key64=!":                              http.StatusBadRequest,
		"inspect?cache=videos&key=%zz":                              http.StatusBadRequest,
		"inspect?key=a":                                             http.StatusNotFound,
		"inspect?cache=Videos&key=a":                                http.StatusNotFound,
		"inspect?cache=videos&key=" + strings.Repeat("k", maxKey):   http.StatusOK,
		"inspect?cache=videos&key=" + strings.Repeat("k", maxKey+1): http.StatusBadRequest,
		"keys": http.StatusNotFound, "keys?cache=x": http.StatusNotFound, "keys?%zz": http.StatusBadRequest,
	} {
		r := ask(h, "GET", "/api/"+target, "")
		body := read(t, r)
		if r.StatusCode != status || status != http.StatusOK && !strings.HasPrefix(body, `{"error":"`) {
			t.Errorf("%.80s: %d %.200s", target, r.StatusCode, body)
		}
	}
}

func TestKeysThatAreNoUTF8AreFoundAgain(t *testing.T) {
	const key = "\xff\x00\xfe"
	f := newFake("videos")
	f.hot = []dewar.HotKey{{Key: key, Reads: 12.3456}, {Key: "plain", Reads: 1}}
	h := Handler(f)
	list := decoded[keyList](t, ask(h, "GET", "/api/keys?cache=videos", ""), http.StatusOK)
	if !list.Tracked || len(list.Hot) != 2 || list.Hot[0].Reads != 12.35 || list.Hot[1].Key64 != "" {
		t.Fatalf("%+v", list)
	}
	if raw, _ := base64.RawURLEncoding.DecodeString(list.Hot[0].Key64); string(raw) != key {
		t.Fatalf("key64 is %q", raw)
	}
	for _, query := range []string{"key64=" + list.Hot[0].Key64, "key=" + url.QueryEscape(key)} {
		in := decoded[inspection](t, ask(h, "GET", "/api/inspect?cache=videos&"+query, ""), http.StatusOK)
		if in.Key64 != list.Hot[0].Key64 {
			t.Errorf("%s finds %+v", query, in.keyText)
		}
	}
}

func TestHostileNamesAndKeysAreNothingButText(t *testing.T) {
	const evil = `</script><script>alert(1)</script>"'&` + "\u2028\x00"
	f := newFake(evil)
	f.hot = []dewar.HotKey{{Key: evil, Reads: 1}}
	h := Handler(f)
	for _, target := range []string{"/api/caches", "/api/keys?cache=" + url.QueryEscape(evil), "/api/inspect?cache=" + url.QueryEscape(evil) + "&key=" + url.QueryEscape(evil)} {
		r := ask(h, "GET", target, "")
		if body := read(t, r); strings.Contains(body, "<") || strings.Contains(body, "\u2028") || !strings.Contains(body, `alert(1)`) {
			t.Errorf("%s: %s", target, body)
		}
	}
}
