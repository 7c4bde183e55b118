package dewar_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/dewarcache/dewar"
)

func TestStatsTellWhetherThereIsARemoteTierAndWhetherTheCacheIsClosed(t *testing.T) {
	for name, remote := range map[string]bool{"ristretto": false, "both": true} {
		t.Run(name, func(t *testing.T) {
			cfg := localOnly(newOrigin(0))
			tierings()[name](&cfg)
			c := open(t, cfg)
			if s := c.Stats(); s.HasRemote != remote || s.Closed {
				t.Errorf("HasRemote %v, Closed %v", s.HasRemote, s.Closed)
			}
			c.Close()
			if s := c.Stats(); s.HasRemote != remote || !s.Closed {
				t.Errorf("after Close: HasRemote %v, Closed %v", s.HasRemote, s.Closed)
			}
		})
	}
}

func TestEveryOperationOnAClosedCacheIsErrClosed(t *testing.T) {
	c := open(t, localOnly(newOrigin(0)))
	c.Close()
	for _, op := range []dewar.Operation{dewar.OpInvalidate, dewar.OpExpire, dewar.OpRefresh, dewar.OpKeepWarm, dewar.OpLetGo} {
		if err := c.Operate(t.Context(), op, "a"); !errors.Is(err, dewar.ErrClosed) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestLogKeyIsTheKeyAsLogLinesHaveIt(t *testing.T) {
	cfg := localOnly(newOrigin(0))
	quoted := open(t, cfg)
	if got, want := quoted.LogKey("a\nb"), `"a\nb"`; got != want {
		t.Errorf("quoted: %s, not %s", got, want)
	}
	cfg.LogKeys = dewar.KeysHashed
	hashed := open(t, cfg)
	if got := hashed.LogKey("anna@example.org"); strings.Contains(got, "anna") || got != hashed.LogKey("anna@example.org") {
		t.Errorf("hashed: %s", got)
	}
}

func TestTrackedKeysAreNilOnlyWithoutTrack(t *testing.T) {
	cfg := localOnly(newOrigin(0))
	if c := open(t, cfg); c.HotKeys() != nil || c.StaleKeys() != nil {
		t.Error("without Track there are lists")
	}
	cfg.Track = 10
	if c := open(t, cfg); c.HotKeys() == nil || c.StaleKeys() == nil {
		t.Error("with Track there are none, though they are only empty")
	}
}
