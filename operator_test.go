package dewar_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
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

// ownKey is a key that is neither a string nor an integer.
type ownKey struct {
	Shop   string
	Number int
}

func openOwnKeys(t *testing.T, parse func(string) (ownKey, error)) (c *dewar.Cache[ownKey, string], loads map[ownKey]int) {
	t.Helper()
	loads = make(map[ownKey]int)
	c, err := dewar.New(dewar.Config[ownKey, string]{
		Name: "videos", TTL: time.Minute, Local: memory.Config[string]{MaxEntries: 100},
		Key:      func(k ownKey) string { return fmt.Sprintf("%s/%d", k.Shop, k.Number) },
		ParseKey: parse,
		Load: func(_ context.Context, k ownKey) (string, error) {
			loads[k]++
			return k.Shop, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, loads
}

func TestAnOperationOnAKeyOfTheUsersOwnTypeTakesHisParseKey(t *testing.T) {
	id := ownKey{"de", 7}
	errParse := errors.New("no video")
	c, loads := openOwnKeys(t, func(s string) (k ownKey, err error) {
		if _, err := fmt.Sscanf(strings.ReplaceAll(s, "/", " "), "%s %d", &k.Shop, &k.Number); err != nil {
			return k, errParse
		}
		return k, nil
	})
	holds := func() bool {
		in, err := c.Inspect(t.Context(), "de/7")
		return err == nil && in.Local != nil
	}
	operate := func(op dewar.Operation) {
		t.Helper()
		if err := c.Operate(t.Context(), op, "de/7"); err != nil {
			t.Errorf("%s: %v", op, err)
		}
	}
	operate(dewar.OpRefresh)
	if !holds() || loads[id] != 1 {
		t.Errorf("refresh: %v, %v", holds(), loads)
	}
	operate(dewar.OpExpire)
	if in, _ := c.Inspect(t.Context(), "de/7"); in.Local != nil && in.Local.Age == "fresh" {
		t.Errorf("expire: %+v", in.Local)
	}
	operate(dewar.OpRefresh)
	operate(dewar.OpInvalidate)
	if holds() {
		t.Error("invalidate: it is still there")
	}
	operate(dewar.OpKeepWarm)
	if in, _ := c.Inspect(t.Context(), "de/7"); !in.Pinned {
		t.Error("pin: it is not")
	}
	operate(dewar.OpLetGo)
	if in, _ := c.Inspect(t.Context(), "de/7"); in.Pinned {
		t.Error("unpin: it still is")
	}
	if err := c.Operate(t.Context(), dewar.OpRefresh, "x"); !errors.Is(err, errParse) {
		t.Errorf("no key: %v", err)
	}
	if err := c.Operate(t.Context(), dewar.OpRefresh, "de/07"); err == nil || !strings.Contains(err.Error(), "de/07") {
		t.Errorf("another spelling: %v", err)
	}
}

func TestAnOperationOnAKeyOfTheUsersOwnTypeWithoutParseKeyIsErrNoKey(t *testing.T) {
	c, loads := openOwnKeys(t, nil)
	if _, err := c.Get(t.Context(), ownKey{"de", 7}); err != nil {
		t.Fatal(err)
	}
	for _, op := range []dewar.Operation{dewar.OpInvalidate, dewar.OpExpire, dewar.OpRefresh, dewar.OpKeepWarm, dewar.OpLetGo} {
		if err := c.Operate(t.Context(), op, "de/7"); !errors.Is(err, dewar.ErrNoKey) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if in, err := c.Inspect(t.Context(), "de/7"); err != nil || in.Local == nil || in.Local.Age != "fresh" || in.Pinned || loads[ownKey{"de", 7}] != 1 {
		t.Errorf("%+v, %v, %v", in, err, loads)
	}
}

func TestAnUnknownOperationIsRefused(t *testing.T) {
	c := open(t, localOnly(newOrigin(0)))
	for _, op := range []dewar.Operation{"", "drop", "Refresh"} {
		if err := c.Operate(t.Context(), op, "a"); err == nil || !strings.Contains(err.Error(), strconv.Quote(string(op))) {
			t.Errorf("%q: %v", op, err)
		}
	}
}
