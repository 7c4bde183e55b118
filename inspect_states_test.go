package dewar_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// aged is a cache whose entries are due after 72 to 88 s, stale after 100 s and
// dead an hour later; those of missing keys are dead after a minute.
func aged(o *origin) config {
	cfg := localOnly(o)
	refreshAhead(&cfg)
	staleIfError(&cfg)
	missingForLong(&cfg)

	return cfg
}

func TestAnEntryIsInspectedInEveryAgeAndTier(t *testing.T) {
	const edge = 10 * time.Millisecond // an inspection takes time where the remote tier does
	for name, tiers := range tierings() {
		for _, tt := range []struct {
			after    time.Duration
			negative bool
			age      string // "" once it is gone
		}{
			{after: 0, age: "fresh"},
			{after: 70 * time.Second, age: "fresh"},
			{after: 90 * time.Second, age: "due"},
			{after: 100*time.Second - edge, age: "due"},
			{after: 100 * time.Second, age: "stale"},
			{after: time.Hour + 100*time.Second - edge, age: "stale"},
			{after: time.Hour + 100*time.Second},
			{negative: true, after: time.Minute - edge, age: "fresh"},
			{negative: true, after: time.Minute},
		} {
			t.Run(name+"/"+tt.age+"/"+tt.after.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOrigin(0)
					cfg := aged(o)
					tiers(&cfg)
					c := open(t, cfg)
					if tt.negative {
						o.remove("a")
					}
					_, _ = c.Get(t.Context(), "a")
					loaded := o.asked()[0].at
					if err := c.Wait(t.Context()); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Until(loaded.Add(tt.after)))
					in, err := c.Inspect(t.Context(), "a")
					if err != nil || in.Key != "a" {
						t.Fatalf("%+v, %v", in, err)
					}
					for tier, info := range map[string]struct {
						is *dewar.EntryInfo
						on bool
					}{"local": {in.Local, cfg.Local != nil}, "remote": {in.Remote, cfg.Remote != nil}} {
						switch {
						case info.is == nil || info.is.Age == "dead":
							if info.on && tt.age != "" {
								t.Errorf("%s: %+v", tier, info.is)
							}
							continue
						case !info.on || tt.age == "":
							t.Errorf("%s: %+v", tier, *info.is)
							continue
						}
						took := time.Duration(0)
						if cfg.Remote != nil {
							took = 10 * time.Millisecond // round trips to it move the clock on
						}
						age := tt.age
						if age == "due" && tier == "remote" { // each process has its own due time
							age = "fresh"
						}
						if info.is.Age != age || info.is.Negative != tt.negative {
							t.Errorf("%s: %+v, want %s, negative %v", tier, *info.is, age, tt.negative)
						}
						fresh, dead := loaded.Add(100*time.Second), loaded.Add(time.Hour+100*time.Second)
						if tt.negative {
							fresh, dead = loaded.Add(time.Minute), loaded.Add(time.Minute)
						}
						for field, at := range map[string][2]time.Time{
							"Loaded": {info.is.Loaded, loaded}, "Fresh": {info.is.Fresh, fresh}, "Dead": {info.is.Dead, dead},
						} {
							if off := at[0].Sub(at[1]); off < -took || off > took {
								t.Errorf("%s: %s is %v off", tier, field, off)
							}
						}
						switch due := info.is.Due.Sub(loaded); {
						case tier == "remote" || tt.negative:
							if !info.is.Due.IsZero() {
								t.Errorf("%s: due at %v", tier, info.is.Due)
							}
						case due < 72*time.Second || due > 88*time.Second:
							t.Errorf("%s: due after %v", tier, due)
						}
					}
					if want := map[bool]string{true: "value", false: "absent"}[tt.age != ""]; cfg.Remote != nil && in.RemoteState != want || cfg.Remote == nil && in.RemoteState != "" {
						t.Errorf("the remote tier: %q", in.RemoteState)
					}
				})
			})
		}
	}
}

func TestInspectionChangesNothing(t *testing.T) {
	for name, tiers := range tierings() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(0)
				cfg := aged(o)
				tiers(&cfg)
				c := open(t, cfg)
				mustGet(t, c, "a", "a#1")
				if err := c.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(90 * time.Second)
				before := c.Stats()
				for range 10 {
					for _, key := range []string{"a", "b"} {
						if in, err := c.Inspect(t.Context(), key); err != nil || in.Due || in.Loading {
							t.Fatalf("%+v, %v", in, err)
						}
					}
				}
				synctest.Wait()
				if changed := since(before, c.Stats()); len(changed) > 0 || o.count("a") != 1 || o.count("b") != 0 {
					t.Errorf("%v, loads %d, %d", changed, o.count("a"), o.count("b"))
				}
			})
		})
	}
}

func TestWhatHappensToAKeyIsInspected(t *testing.T) {
	background := context.Background()
	tracked := func(cfg *config) { cfg.Track = 10 }
	for name, tt := range map[string]struct {
		alter []func(*config)
		do    func(w *scene)
		is    func(in dewar.Inspection, err error) bool
	}{
		"a flight under way": {
			do: func(w *scene) { w.o.slow(5 * time.Second); go w.read("a"); time.Sleep(time.Second) },
			is: func(in dewar.Inspection, err error) bool {
				return err == nil && in.Loading && in.RemoteState == "leased" && in.Local == nil && in.Remote == nil
			},
		},
		"a flight in another process": {
			do: func(w *scene) {
				w.o.slow(5 * time.Second)
				go func() { _, _ = w.other.Get(background, "a") }()
				time.Sleep(time.Second)
			},
			is: func(in dewar.Inspection, err error) bool {
				return err == nil && !in.Loading && in.RemoteState == "leased"
			},
		},
		"a flight that has ended": {
			do: func(w *scene) { w.read("a") },
			is: func(in dewar.Inspection, err error) bool { return err == nil && !in.Loading && in.Local != nil },
		},
		"pinned": {
			do: func(w *scene) { w.KeepWarm("a", "b"); w.LetGo("b"); time.Sleep(time.Second) },
			is: func(in dewar.Inspection, err error) bool { return err == nil && in.Pinned && in.Local != nil },
		},
		"no longer pinned": {
			do: func(w *scene) { w.KeepWarm("a"); w.LetGo("a") },
			is: func(in dewar.Inspection, err error) bool { return err == nil && !in.Pinned },
		},
		"in the bucket": {
			alter: []func(*config){noRemote, refreshAhead},
			do: func(w *scene) {
				w.read("a")
				time.Sleep(90 * time.Second)
				w.o.slow(5 * time.Second)
				w.read("a")
			},
			is: func(in dewar.Inspection, err error) bool { return err == nil && in.Due && in.Local.Age == "fresh" },
		},
		"resting after a failure": {
			alter: []func(*config){noRemote, staleIfError},
			do: func(w *scene) {
				w.read("a")
				time.Sleep(2 * time.Minute)
				w.o.fail(errOrigin)
				w.read("a")
			},
			is: func(in dewar.Inspection, err error) bool {
				return err == nil && in.Resting > 0 && errors.Is(in.RestsFor, errOrigin) && in.Local.Age == "stale"
			},
		},
		"rested": {
			alter: []func(*config){noRemote, staleIfError},
			do: func(w *scene) {
				w.read("a")
				time.Sleep(2 * time.Minute)
				w.o.fail(errOrigin)
				w.read("a")
				time.Sleep(time.Minute)
			},
			is: func(in dewar.Inspection, err error) bool { return err == nil && in.Resting == 0 && in.RestsFor == nil },
		},
		"an invalidation not confirmed": {
			do: func(w *scene) {
				w.both("a")
				w.chaos.Down(true)
				_ = w.Invalidate(background, "a")
			},
			is: func(in dewar.Inspection, err error) bool {
				return err != nil && in.Pending && in.Local == nil && in.RemoteState == "failed"
			},
		},
		"a remote tier that is down": {
			do: func(w *scene) { w.both("a"); w.chaos.Down(true) },
			is: func(in dewar.Inspection, err error) bool {
				return err != nil && !in.Pending && in.Local != nil && in.Remote == nil && in.RemoteState == "failed"
			},
		},
		"loaded for a reader": {
			alter: []func(*config){tracked},
			do:    func(w *scene) { w.read("a") },
			is:    func(in dewar.Inspection, _ error) bool { return in.Source == dewar.SourceReader },
		},
		"refreshed": {
			alter: []func(*config){tracked},
			do:    func(w *scene) { _ = w.Refresh(background, "a") },
			is:    func(in dewar.Inspection, _ error) bool { return in.Source == dewar.SourceRefresh },
		},
		"preloaded": {
			alter: []func(*config){tracked},
			do:    func(w *scene) { _ = w.Preload(background, slices.Values([]string{"a"})) },
			is:    func(in dewar.Inspection, _ error) bool { return in.Source == dewar.SourcePreload },
		},
		"set": {
			alter: []func(*config){tracked},
			do:    func(w *scene) { _ = w.Set(background, "a", "v") },
			is:    func(in dewar.Inspection, _ error) bool { return in.Source == dewar.SourceSet },
		},
		"from the remote tier": {
			alter: []func(*config){tracked},
			do:    func(w *scene) { w.both("a") },
			is: func(in dewar.Inspection, _ error) bool {
				return in.Source == dewar.SourceRemote && in.Remote != nil && in.Remote.Loaded.Equal(in.Local.Loaded)
			},
		},
		"not tracked": {
			do: func(w *scene) { w.read("a") },
			is: func(in dewar.Inspection, _ error) bool { return in.Source == dewar.SourceUnknown },
		},
		"gone from here": {
			alter: []func(*config){tracked},
			do:    func(w *scene) { w.read("a"); _ = w.Invalidate(background, "a") },
			is: func(in dewar.Inspection, _ error) bool {
				return in.Source == dewar.SourceUnknown && in.Local == nil && in.RemoteState == "absent"
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := setScene(t, tt.alter...)
				tt.do(w)
				in, err := w.Inspect(t.Context(), "a")
				if !tt.is(in, err) {
					t.Errorf("%+v, %v", in, err)
				}
				w.chaos.Down(false)
			})
		})
	}
}

func TestTheSizeOfALocalEntryIsItsCostWhereItHasOne(t *testing.T) {
	for name, tt := range map[string]struct {
		local dewar.LocalOpener[string]
		size  int64
	}{
		"ristretto by cost":    {memory.Config[string]{MaxCost: 1000, Cost: func(_, v string) int64 { return int64(10 * len(v)) }}, 30},
		"ristretto by entries": {memory.Config[string]{MaxEntries: 1000}, 0},
		"otter by cost":        {memory.Otter[string]{MaxCost: 1000, Cost: func(_, v string) int64 { return int64(10 * len(v)) }}, 30},
		"otter by entries":     {memory.Otter[string]{MaxEntries: 1000}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := localOnly(newOrigin(0))
			cfg.Local = tt.local
			c := open(t, cfg)
			mustGet(t, c, "a", "a#1")
			if in, err := c.Inspect(t.Context(), "a"); err != nil || in.Local == nil || in.Local.Size != tt.size {
				t.Errorf("%+v, %v", in.Local, err)
			}
		})
	}
}
