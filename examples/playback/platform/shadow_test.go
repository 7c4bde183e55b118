package platform

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// sample is an answer about one title.
func sample(change func(*wire.Answer)) *wire.Answer {
	a := &wire.Answer{Titles: []wire.Title{{
		ID:       "a",
		Metadata: &wire.Metadata{Name: "A", Tags: []string{"x", "y"}, Ends: time.Unix(1000, 0)},
		Stream:   &wire.Stream{URL: "https://cdn.example/a.m3u8?sig=1", Expires: time.Unix(1000, 0)},
		Ads:      []wire.Ad{{Pod: "p", Spot: 0, Brand: "X"}},
		Artwork:  &wire.Artwork{Poster: "p"}, Recommendations: []string{"b", "c"},
	}}, Unknown: []string{"z", "y"}}
	if change != nil {
		change(a)
	}
	return a
}

func TestDifferencesAreToldApart(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*wire.Answer)
		want   []string // kinds
	}{
		"none":                 {nil, nil},
		"order of tags":        {func(a *wire.Answer) { a.Titles[0].Metadata.Tags = []string{"y", "x"} }, []string{Order}},
		"signature":            {func(a *wire.Answer) { a.Titles[0].Stream.URL = "https://cdn.example/a.m3u8?sig=2" }, []string{Signature}},
		"expiry":               {func(a *wire.Answer) { a.Titles[0].Stream.Expires = time.Unix(1001, 0) }, []string{Signature}},
		"rotation":             {func(a *wire.Answer) { a.Titles[0].Ads[0].Brand = "Y" }, []string{Rotation}},
		"order of the unknown": {func(a *wire.Answer) { a.Unknown = []string{"y", "z"} }, nil},
		"time zone": {func(a *wire.Answer) {
			a.Titles[0].Metadata.Ends = a.Titles[0].Metadata.Ends.In(time.FixedZone("x", 3600))
		}, nil},
		"several": {func(a *wire.Answer) {
			a.Titles[0].Ads[0].Brand, a.Titles[0].Stream.URL = "Y", "https://cdn.example/a.m3u8?sig=2"
		}, []string{Signature, Rotation}},

		"other tag":             {func(a *wire.Answer) { a.Titles[0].Metadata.Tags = []string{"y", "z"} }, []string{Real}},
		"tag twice":             {func(a *wire.Answer) { a.Titles[0].Metadata.Tags = []string{"x", "x", "y"} }, []string{Real}},
		"other name":            {func(a *wire.Answer) { a.Titles[0].Metadata.Name = "B" }, []string{Real}},
		"other end":             {func(a *wire.Answer) { a.Titles[0].Metadata.Ends = time.Unix(1001, 0) }, []string{Real}},
		"no metadata":           {func(a *wire.Answer) { a.Titles[0].Metadata = nil }, []string{Real}},
		"other stream":          {func(a *wire.Answer) { a.Titles[0].Stream.URL = "https://cdn.example/b.m3u8?sig=1" }, []string{Real}},
		"no stream":             {func(a *wire.Answer) { a.Titles[0].Stream = nil }, []string{Real}},
		"other pod":             {func(a *wire.Answer) { a.Titles[0].Ads[0].Pod = "q" }, []string{Real}},
		"one spot more":         {func(a *wire.Answer) { a.Titles[0].Ads = append(a.Titles[0].Ads, wire.Ad{}) }, []string{Real}},
		"no ads":                {func(a *wire.Answer) { a.Titles[0].Ads = nil }, []string{Real}},
		"other artwork":         {func(a *wire.Answer) { a.Titles[0].Artwork.Poster = "q" }, []string{Real}},
		"other recommendations": {func(a *wire.Answer) { a.Titles[0].Recommendations = []string{"c", "b"} }, []string{Real}},
		"other title":           {func(a *wire.Answer) { a.Titles[0].ID = "b" }, []string{Real}},
		"no title":              {func(a *wire.Answer) { a.Titles = nil }, []string{Real}},
		"unknown":               {func(a *wire.Answer) { a.Unknown = a.Unknown[:1] }, []string{Real}},

		"shed": {func(a *wire.Answer) {
			a.Titles[0].Artwork, a.Titles[0].Ads = nil, nil
			a.Shed = []wire.Part{wire.PartArtwork, wire.PartAds}
		}, nil},
		"incomplete": {func(a *wire.Answer) {
			a.Titles[0].Metadata = nil
			a.Incomplete = []wire.Part{wire.PartMetadata}
		}, nil},
	} {
		for _, swap := range []bool{false, true} {
			a, b := sample(nil), sample(tc.change)
			if swap {
				a, b = b, a
			}
			var kinds []string
			for _, d := range compare(a, b) {
				kinds = append(kinds, d.Kind)
				if d.What == "" || d.Old == d.New {
					t.Errorf("%s: %+v", name, d)
				}
			}
			if !reflect.DeepEqual(kinds, tc.want) {
				t.Errorf("%s: %v, want %v", name, kinds, tc.want)
			}
		}
	}
}

func TestBothPathsAreCompared(t *testing.T) {
	for name, percent := range map[string]int{"old answers": 0, "new answers": 100} {
		t.Run(name, func(t *testing.T) {
			p, _ := open(t, func(cfg *Config) { cfg.Percent, cfg.Shadow = percent, 1 })
			for range 5 {
				if w, a := ask(t, p, "ids=title-0001,title-0002,nothing,title-0001"); w.Code != http.StatusOK || len(a.Titles) != 2 {
					t.Fatalf("%d %+v", w.Code, a)
				}
			}
			eventually(t, "compared", func() bool { return p.Stats().Shadow.Compared == 5 })
			s := p.Stats().Shadow
			if s.Real != 0 || s.Failed+s.Dropped != 0 || s.Known[Signature] != 10 || len(s.Samples) == 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestARealDifferenceIsFound(t *testing.T) {
	p, s := open(t, func(cfg *Config) { cfg.Shadow = 1 })
	ask(t, p, "ids=title-0001&parts=metadata")
	eventually(t, "compared", func() bool { return p.Stats().Shadow.Compared == 1 })
	s.Extend() // and nobody tells the platform
	ask(t, p, "ids=title-0001&parts=metadata")
	eventually(t, "compared", func() bool { return p.Stats().Shadow.Compared == 2 })
	if s := p.Stats().Shadow; s.Real != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAPathThatDoesNotAnswerIsNoDifference(t *testing.T) {
	p, s := warmed(t, 2, func(cfg *Config) { cfg.Shadow = 1 })
	s.Break("streams", 1, 0)
	ask(t, p, "ids=title-0001")
	eventually(t, "given up", func() bool { return p.Stats().Shadow.Failed == 1 })
	s.Heal("streams")
	p.Dial().Set(dewar.Degraded)
	ask(t, p, "ids=title-0001")
	eventually(t, "compared", func() bool { return p.Stats().Shadow.Compared == 1 })
	if s := p.Stats().Shadow; s.Real != 0 {
		t.Errorf("%+v", s)
	}
}

func TestComparingHoldsUpNobody(t *testing.T) {
	p, s := warmed(t, 2, func(cfg *Config) { cfg.Shadow = 1 })
	s.Break("streams", 0, time.Minute) // the old path hangs
	const answers = shadowQueue + shadowWorkers + 10
	begun := time.Now()
	for range answers {
		if w, _ := ask(t, p, "ids=title-0001&parts=stream"); w.Code != http.StatusOK {
			t.Fatal(w.Code)
		}
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
	if n := p.Stats().Shadow.Dropped; n < 10 {
		t.Errorf("%d dropped", n)
	}
	p.SetShadow(0)
	before := p.Stats().Shadow.Dropped
	ask(t, p, "ids=title-0001&parts=stream")
	if n := p.Stats().Shadow.Dropped - before; n != 0 {
		t.Error("compared though it is off")
	}
}
