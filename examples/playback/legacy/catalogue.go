package legacy

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar/examples/playback/wire"
)

// catalogue is what the legacy service knows.
type catalogue struct {
	o       Options
	edition atomic.Int64 // of the schedule
}

const (
	titlePrefix   = "title-"
	archivePrefix = "archive-"
)

// TitleID is the i-th title of tonight's schedule.
func TitleID(i int) string { return fmt.Sprintf("%s%04d", titlePrefix, i) }

// ArchiveID is the i-th older title.
func ArchiveID(i int) string { return fmt.Sprintf("%s%04d", archivePrefix, i) }

// kickOff is when tonight's schedule starts, and extraTime by how much each
// Extend makes it longer.
var kickOff = time.Date(2026, time.July, 19, 19, 0, 0, 0, time.UTC)

const (
	matchTime = 2 * time.Hour
	extraTime = 30 * time.Minute
)

// Extend makes every title of the schedule end later, and returns when.
func (c *catalogue) Extend() (ends time.Time) { return endsIn(c.edition.Add(1)) }

func endsIn(edition int64) time.Time {
	return kickOff.Add(matchTime + time.Duration(edition)*extraTime)
}

func (c *catalogue) knows(id string) bool {
	return numbered(id, titlePrefix, c.o.Titles) || numbered(id, archivePrefix, c.o.Archive)
}

// numbered reports whether id is one of n with a prefix.
func numbered(id, prefix string, n int) bool {
	var i int
	rest, ok := strings.CutPrefix(id, prefix)
	_, err := fmt.Sscanf(rest, "%d", &i)
	return ok && err == nil && i >= 0 && i < n && id == fmt.Sprintf("%s%04d", prefix, i)
}

func (c *catalogue) metadataOf(id string) wire.Metadata {
	m := wire.Metadata{
		Name: "The one about " + id, Starts: kickOff, Ends: endsIn(0),
		Tags: []string{"football", "live", "final", "simulated"},
	}
	if strings.HasPrefix(id, titlePrefix) {
		m.Ends = endsIn(c.edition.Load())
	}
	// The table they come from has no order.
	rand.Shuffle(len(m.Tags), func(i, j int) { m.Tags[i], m.Tags[j] = m.Tags[j], m.Tags[i] })
	return m
}

// signingKey is as secret as what it signs.
var signingKey = []byte("simulated")

func (c *catalogue) streamOf(id string) wire.Stream {
	expires := time.Now().Add(c.o.StreamValid)
	path := "/" + id + "/master.m3u8"
	mac := hmac.New(sha256.New, signingKey)
	fmt.Fprintf(mac, "%s %d", path, expires.UnixNano())
	return wire.Stream{
		URL:     fmt.Sprintf("https://cdn.example%s?expires=%d&sig=%x", path, expires.Unix(), mac.Sum(nil)[:12]),
		Expires: expires,
	}
}

const spotsInPod = 2

var brands = []string{"Acme", "Initech", "Globex", "Umbrella", "Hooli", "Soylent", "Stark", "Wayne"}

// adsOf is another choice each time: ads rotate.
func (c *catalogue) adsOf(pod string) []wire.Ad {
	ads := make([]wire.Ad, spotsInPod)
	for i := range ads {
		ads[i] = wire.Ad{Pod: pod, Spot: i, Brand: brands[rand.IntN(len(brands))]}
	}
	return ads
}

func (c *catalogue) artworkOf(id string) wire.Artwork {
	return wire.Artwork{Poster: "https://img.example/" + id + "/poster.jpg", Backdrop: "https://img.example/" + id + "/backdrop.jpg"}
}

func (c *catalogue) recommendationsFor(id string) []string {
	var ids []string
	for i := range min(4, c.o.Titles) {
		ids = append(ids, TitleID((len(id)+int(id[len(id)-1])+7*i)%c.o.Titles))
	}
	return ids
}

func (c *catalogue) title(id string, wants func(wire.Part) bool) wire.Title {
	t := wire.Title{ID: id}
	if wants(wire.PartMetadata) {
		m := c.metadataOf(id)
		t.Metadata = &m
	}
	if wants(wire.PartStream) {
		s := c.streamOf(id)
		t.Stream = &s
	}
	if wants(wire.PartAds) {
		t.Ads = c.adsOf(wire.PodOf(id))
	}
	if wants(wire.PartArtwork) {
		a := c.artworkOf(id)
		t.Artwork = &a
	}
	if wants(wire.PartRecommendations) {
		t.Recommendations = c.recommendationsFor(id)
	}
	return t
}
