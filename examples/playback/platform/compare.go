package platform

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"

	"github.com/dewarcache/dewar/examples/playback/wire"
)

// Difference is something that the old and the new path answer differently.
type Difference struct {
	Kind string `json:"kind"` // Order, Signature, Rotation: harmless; or Real
	What string `json:"what"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// The kinds of differences. All but Real are known, and as it should be.
const (
	Order     = "order"     // tags come in no order
	Signature = "signature" // each URL is signed anew, for as long from then
	Rotation  = "rotation"  // another spot of the same pod
	Real      = "real"
)

// compare returns what is different between two answers to one request, in what
// both have: what is shed or incomplete in one of them is not compared.
func compare(before, after *wire.Answer) (found []Difference) {
	if !sameSet(before.Unknown, after.Unknown) {
		found = append(found, differ(Real, "unknown titles", before.Unknown, after.Unknown))
	}
	if len(before.Titles) != len(after.Titles) {
		return append(found, differ(Real, "number of titles", len(before.Titles), len(after.Titles)))
	}
	skip := slices.Concat(before.Shed, before.Incomplete, after.Shed, after.Incomplete)
	for i, t := range before.Titles {
		found = append(found, compareTitles(t, after.Titles[i], skip)...)
	}
	return found
}

func compareTitles(before, after wire.Title, skip []wire.Part) (found []Difference) {
	if before.ID != after.ID {
		return []Difference{differ(Real, "title", before.ID, after.ID)}
	}
	a, b := before, after
	note := func(part wire.Part, kind string, before, after any) {
		if !slices.Contains(skip, part) {
			found = append(found, differ(kind, fmt.Sprintf("%s of %s", part, a.ID), before, after))
		}
	}
	switch x, y := a.Metadata, b.Metadata; {
	case !sameButTags(x, y), x != nil && !sameSet(x.Tags, y.Tags):
		note(wire.PartMetadata, Real, x, y)
	case x != nil && !slices.Equal(x.Tags, y.Tags):
		note(wire.PartMetadata, Order, x.Tags, y.Tags)
	}
	switch x, y := a.Stream, b.Stream; {
	case reflect.DeepEqual(x, y):
	case unsigned(x) == unsigned(y):
		note(wire.PartStream, Signature, x, y)
	default:
		note(wire.PartStream, Real, x, y)
	}
	switch x, y := a.Ads, b.Ads; {
	case slices.Equal(x, y):
	case slices.EqualFunc(x, y, sameSpot):
		note(wire.PartAds, Rotation, x, y)
	default:
		note(wire.PartAds, Real, x, y)
	}
	if !reflect.DeepEqual(a.Artwork, b.Artwork) {
		note(wire.PartArtwork, Real, a.Artwork, b.Artwork)
	}
	if !slices.Equal(a.Recommendations, b.Recommendations) {
		note(wire.PartRecommendations, Real, a.Recommendations, b.Recommendations)
	}
	return found
}

func sameButTags(a, b *wire.Metadata) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Name == b.Name && a.Starts.Equal(b.Starts) && a.Ends.Equal(b.Ends)
}

// unsigned is where a stream is, without who may play it until when; "" when
// there is none.
func unsigned(s *wire.Stream) string {
	if s == nil {
		return ""
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		return s.URL
	}
	u.RawQuery = ""
	return u.String()
}

func sameSpot(a, b wire.Ad) bool { return a.Pod == b.Pod && a.Spot == b.Spot }

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func differ(kind, what string, before, after any) Difference {
	return Difference{Kind: kind, What: what, Old: brief(before), New: brief(after)}
}

// brief is v for a report.
func brief(v any) string {
	if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && !p.IsNil() {
		v = p.Elem().Interface()
	}
	return fmt.Sprintf("%.200s", fmt.Sprintf("%+v", v))
}
