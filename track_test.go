package dewar_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
	"github.com/dewarcache/dewar/memory"
)

// tracking configures a cache that tells of so many keys.
func tracking(o *origin, keep int) config {
	cfg := batched(o)
	cfg.Local = memory.Config[string]{MaxEntries: 200_000}
	cfg.Track = keep
	return cfg
}

// readMany reads a key so often.
func readMany(t *testing.T, c *cache, key string, times int) {
	t.Helper()
	for range times {
		if _, err := c.Get(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheHottestOfAHundredThousandKeysAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const reads, told, top = 800_000, 20, 10
		c := open(t, tracking(newOrigin(0), told))
		all := make([]string, 100_000)
		for i := range all {
			all[i] = fmt.Sprint("key", i)
		}
		if _, err := c.GetMany(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.2, 1, uint64(len(all)-1))
		times := make(map[string]int)
		for range reads {
			k := all[zipf.Uint64()]
			times[k]++
			if _, err := c.Get(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Second)
		hottest := slices.SortedFunc(maps.Keys(times), func(a, b string) int { return times[b] - times[a] })
		got := c.HotKeys()
		if len(got) != told {
			t.Fatalf("%d keys", len(got))
		}
		for i, k := range hottest[:top] {
			at := slices.IndexFunc(got, func(h dewar.HotKey) bool { return h.Key == k })
			if at < 0 {
				t.Errorf("number %d of the hottest, %s, is not among %v", i+1, k, got)
				continue
			}
			if want := float64(times[k]) / 20; got[at].Reads < 0.8*want || got[at].Reads > 1.4*want {
				t.Errorf("%s was read %v times a second, it says %v", k, want, got[at].Reads)
			}
		}
		if got[0].Key != hottest[0] {
			t.Errorf("the hottest is %s, not %s", hottest[0], got[0].Key)
		}
		if !slices.IsSortedFunc(got, func(a, b dewar.HotKey) int { return int(b.Reads - a.Reads) }) {
			t.Error("not in order:", got)
		}
	})
}

func TestReadsOfEveryKindMakeAKeyHot(t *testing.T) {
	reads := map[string]func(ctx context.Context, c *cache) error{
		"Get":            func(ctx context.Context, c *cache) error { _, err := c.Get(ctx, "a"); return err },
		"GetResult":      func(ctx context.Context, c *cache) error { _, err := c.GetResult(ctx, "a"); return err },
		"GetMany":        func(ctx context.Context, c *cache) error { _, err := c.GetMany(ctx, []string{"a"}); return err },
		"GetManyResults": func(ctx context.Context, c *cache) error { _, err := c.GetManyResults(ctx, []string{"a"}); return err },
		"Reload":         func(ctx context.Context, c *cache) error { _, err := c.Get(ctx, "a", dewar.Reload()); return err },
	}
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			c := open(t, tracking(newOrigin(0), 5))
			for range 1000 {
				if err := read(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			if hot := c.HotKeys(); len(hot) != 1 || hot[0].Key != "a" {
				t.Error(hot)
			}
		})
	}
}

func TestTheRateOfAKeyReadEvenlyIsTold(t *testing.T) {
	for _, after := range []time.Duration{20 * time.Second, 59 * time.Second, 61 * time.Second, 5 * time.Minute} {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const perSecond = 4000
				cfg := tracking(newOrigin(0), 5)
				cfg.TTL = time.Hour
				c := open(t, cfg)
				for range after / time.Second {
					readMany(t, c, "a", perSecond)
					time.Sleep(time.Second)
				}
				// Of 80,000 reads at least one in 16 is counted: 3 % is over two deviations; 10 % over seven.
				if hot := c.HotKeys(); len(hot) != 1 || hot[0].Reads < 0.9*perSecond || hot[0].Reads > 1.1*perSecond {
					t.Errorf("%v; it is read %d times a second", hot, perSecond)
				}
			})
		})
	}
}

func TestWhatWasHotMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tracking(newOrigin(0), 5)
		cfg.TTL = 10 * time.Hour
		c := open(t, cfg)
		readMany(t, c, "yesterday", 64_000)
		time.Sleep(6 * time.Minute)
		readMany(t, c, "now", 4_000)
		if hot := c.HotKeys(); len(hot) != 2 || hot[0].Key != "now" {
			t.Error("after minutes:", hot)
		}
		time.Sleep(time.Hour)
		if hot := c.HotKeys(); len(hot) != 0 {
			t.Error("after an hour without reads:", hot)
		}
		readMany(t, c, "now", 4_000)
		time.Sleep(time.Second)
		if hot := c.HotKeys(); len(hot) != 1 || hot[0].Reads > 100 {
			t.Error("4000 reads in an hour:", hot)
		}
	})
}

// staleTracking is tracking with stale values and RetryAfter out of the way.
func staleTracking(o *origin, keep int) config {
	cfg := tracking(o, keep)
	cfg.Stale.IfError = time.Hour
	cfg.Stale.RetryAfter = time.Millisecond
	return cfg
}

// staleKeys is StaleKeys without their ages.
func staleKeys(c *cache) (keys []string) {
	for _, k := range c.StaleKeys() {
		keys = append(keys, k.Key)
	}
	return keys
}

func TestKeysServedStaleAreToldTheOldestFirst(t *testing.T) {
	for name, tiers := range tierings() {
		if strings.Contains(name, "slow") {
			continue // ages would not be exact
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := staleTracking(o, 3)
				tiers(&cfg)
				c := open(t, cfg)
				ks := []string{"a", "b", "c", "d", "e"}
				for _, k := range ks {
					mustGet(t, c, k, k+"#1")
					time.Sleep(time.Second)
				}
				if got := c.StaleKeys(); len(got) != 0 {
					t.Error("nothing was served stale:", got)
				}
				o.fail(errOrigin)
				time.Sleep(2 * time.Minute)
				for _, k := range []string{"d", "b", "e", "a", "c"} {
					mustGet(t, c, k, k+"#1")
				}
				got := c.StaleKeys()
				want := []dewar.StaleKey{
					{Key: "a", Age: 2*time.Minute + 5*time.Second},
					{Key: "b", Age: 2*time.Minute + 4*time.Second},
					{Key: "c", Age: 2*time.Minute + 3*time.Second},
				}
				if !slices.Equal(got, want) {
					t.Errorf("%v; want %v", got, want)
				}
			})
		})
	}
}

func TestAKeyThatIsReplacedIsNoStaleKeyAnyMore(t *testing.T) {
	type replace func(ctx context.Context, c *cache) error
	for how, do := range map[string]replace{
		"Get":           func(ctx context.Context, c *cache) error { _, err := c.Get(ctx, "a"); return err },
		"GetMany":       func(ctx context.Context, c *cache) error { _, err := c.GetMany(ctx, []string{"a"}); return err },
		"Refresh":       func(ctx context.Context, c *cache) error { return c.Refresh(ctx, "a") },
		"Set":           func(ctx context.Context, c *cache) error { return c.Set(ctx, "a", "set") },
		"Invalidate":    func(ctx context.Context, c *cache) error { return c.Invalidate(ctx, "a") },
		"InvalidateAll": func(ctx context.Context, c *cache) error { return c.InvalidateAll(ctx) },
		"death":         func(context.Context, *cache) error { time.Sleep(time.Hour); return nil },
	} {
		for name, tiers := range tierings() {
			if name == "remote" && strings.HasPrefix(how, "Invalidate") {
				continue // without a local tier nobody knows before the next read
			}
			if name != "remote" && name != "ristretto" && name != "both" {
				continue
			}
			t.Run(how+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := staleTracking(o, 3)
					tiers(&cfg)
					c := open(t, cfg)
					mustGet(t, c, "a", "a#1")
					o.fail(errOrigin)
					time.Sleep(2 * time.Minute)
					mustGet(t, c, "a", "a#1")
					if got := staleKeys(c); !slices.Equal(got, []string{"a"}) {
						t.Fatal(got)
					}
					o.fail(nil)
					time.Sleep(time.Second)
					if err := do(t.Context(), c); err != nil {
						t.Fatal(err)
					}
					if got := staleKeys(c); len(got) != 0 {
						t.Error(got)
					}
				})
			})
		}
	}
}

func TestStaleKeysThatNobodyReadsKeepOutNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		c := open(t, staleTracking(o, 3))
		first, second := keys(100), []string{"x", "y"}
		outage := func(ks []string) {
			o.fail(nil)
			if vs, err := c.GetMany(t.Context(), ks); len(vs) != len(ks) || err != nil {
				t.Fatal(len(vs), err)
			}
			o.fail(errOrigin)
			time.Sleep(2 * time.Minute)
			if vs, err := c.GetMany(t.Context(), ks); len(vs) != len(ks) || err != nil {
				t.Fatal(len(vs), err)
			}
		}
		outage(first)
		time.Sleep(2 * time.Hour) // they are dead
		outage(second)
		if got := staleKeys(c); !slices.Equal(got, second) {
			t.Error(got)
		}
	})
}

func TestWhoBroughtAnEntryIsKnown(t *testing.T) {
	for name, bring := range map[string]struct {
		do   func(ctx context.Context, c *cache) error
		want dewar.Source
	}{
		"Get":     {func(ctx context.Context, c *cache) error { _, err := c.Get(ctx, "a"); return err }, dewar.SourceReader},
		"GetMany": {func(ctx context.Context, c *cache) error { _, err := c.GetMany(ctx, []string{"a", "b"}); return err }, dewar.SourceReader},
		"Reload":  {func(ctx context.Context, c *cache) error { _, err := c.Get(ctx, "a", dewar.Reload()); return err }, dewar.SourceReader},
		"beside what was asked for": {
			func(ctx context.Context, c *cache) error {
				_, err := c.GetMany(ctx, []string{"with extra"})
				return err
			},
			dewar.SourceReader,
		},
		"Refresh": {func(ctx context.Context, c *cache) error { return c.Refresh(ctx, "a") }, dewar.SourceRefresh},
		"KeepWarm": {func(_ context.Context, c *cache) error {
			c.KeepWarm("a")
			time.Sleep(time.Second)
			return nil
		}, dewar.SourceRefresh},
		"a refresh ahead": {func(ctx context.Context, c *cache) error {
			_, _ = c.Get(ctx, "a")
			time.Sleep(55 * time.Second)
			_, err := c.Get(ctx, "a")
			time.Sleep(time.Second)
			return err
		}, dewar.SourceRefresh},
		"Preload": {func(ctx context.Context, c *cache) error { return c.Preload(ctx, slices.Values([]string{"a"})) }, dewar.SourcePreload},
		"Set":     {func(ctx context.Context, c *cache) error { return c.Set(ctx, "a", "set") }, dewar.SourceSet},
		"Set, then Refresh": {func(ctx context.Context, c *cache) error {
			_ = c.Set(ctx, "a", "set")
			return c.Refresh(ctx, "a")
		}, dewar.SourceRefresh},
	} {
		for _, track := range []int{0, 3} {
			t.Run(fmt.Sprint(name, " with Track ", track), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := tracking(o, track)
					cfg.Warm.Ahead = 0.8
					cfg.LoadMany = func(ctx context.Context, keys []string) (map[string]string, error) {
						m, err := o.loadMany(ctx, keys)
						if keys[0] == "with extra" {
							m["a"] = "extra"
						}
						return m, err
					}
					c := open(t, cfg)
					if err := bring.do(t.Context(), c); err != nil {
						t.Fatal(err)
					}
					synctest.Wait() // what comes beside is stored after what was asked for is answered
					in, err := c.Inspect(t.Context(), "a")
					want := bring.want
					if track == 0 {
						want = dewar.SourceUnknown
					}
					if err != nil || in.Local == nil || in.Source != want {
						t.Errorf("%+v, %v; want %v", in, err, want)
					}
				})
			})
		}
	}
}

func TestAnEntryThatAnotherProcessLoadedCameFromTheRemoteTier(t *testing.T) {
	for name, read := range map[string]func(ctx context.Context, c *cache) error{
		"Get":       func(ctx context.Context, c *cache) error { _, err := c.Get(ctx, "a"); return err },
		"GetMany":   func(ctx context.Context, c *cache) error { _, err := c.GetMany(ctx, []string{"a"}); return err },
		"CacheOnly": func(ctx context.Context, c *cache) error { _, err := c.Get(ctx, "a", dewar.CacheOnly()); return err },
		"Preload": func(ctx context.Context, c *cache) error {
			return c.Preload(ctx, slices.Values([]string{"a"}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := dewartest.NewRemote[string]()
				cfg := tracking(newOrigin(0), 3)
				cfg.Remote = srv
				here, there := open(t, cfg), open(t, cfg)
				if err := here.Set(t.Context(), "a", "before"); err != nil { // what is noted of it is of no account later
					t.Fatal(err)
				}
				synctest.Wait()
				if err := there.Set(t.Context(), "a", "value"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if in, err := here.Inspect(t.Context(), "a"); err != nil || in.Local != nil || in.Source != dewar.SourceUnknown {
					t.Errorf("where there is no local entry: %+v, %v", in, err)
				}
				if err := read(t.Context(), here); err != nil {
					t.Fatal(err)
				}
				if in, err := here.Inspect(t.Context(), "a"); err != nil || in.Local == nil || in.Source != dewar.SourceRemote {
					t.Errorf("%+v, %v", in, err)
				}
			})
		})
	}
}

func TestTrackIsChecked(t *testing.T) {
	for track, ok := range map[int]bool{0: true, 1000: true, -1: false, 1001: false, math.MaxInt: false} {
		cfg := localOnly(newOrigin(0))
		cfg.Track = track
		if err := cfg.Validate(); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "Track") {
			t.Errorf("%d: %v", track, err)
		}
	}
}

func TestWithoutTrackNoKeyIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(0)
		c := open(t, staleTracking(o, 0))
		readMany(t, c, "a", 1000)
		o.fail(errOrigin)
		time.Sleep(2 * time.Minute)
		mustBe(t, c, "a", "a#1", dewar.StatusStale, dewar.TierLocal)
		if hot, stale := c.HotKeys(), c.StaleKeys(); len(hot) != 0 || len(stale) != 0 {
			t.Error(hot, stale)
		}
	})
}

// Where more keys are read than are counted, each gets the place of another.
func TestAKeyThatIsReadOnceIsNotToldAsHot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tracking(newOrigin(0), 10)
		c := open(t, cfg)
		ks := make([]string, 160_000)
		for i := range ks {
			ks[i] = fmt.Sprint("key", i)
		}
		time.Sleep(time.Second)
		for at := 0; at < len(ks); at += 16_000 { // each key once, over 10 s
			if _, err := c.GetMany(t.Context(), ks[at:at+16_000]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		for _, k := range c.HotKeys()[:3] {
			t.Logf("%s: %.1f reads a second; it was read once", k.Key, k.Reads)
			if k.Reads > 16 { // a sample of one in 16 says at most that of one read
				t.Errorf("%s: %.1f reads a second; it was read once in all", k.Key, k.Reads)
			}
		}
	})
}
