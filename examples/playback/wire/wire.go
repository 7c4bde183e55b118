// Package wire is what the platform, the legacy service and the players say to
// each other, as JSON.
package wire

import (
	"fmt"
	"time"
)

// Part is a part of what players are told of a title.
type Part string

const (
	PartMetadata        Part = "metadata"
	PartStream          Part = "stream"
	PartAds             Part = "ads"
	PartArtwork         Part = "artwork"
	PartRecommendations Part = "recommendations"
)

// Parts are all of them, those that matter most first.
var Parts = []Part{PartStream, PartMetadata, PartAds, PartArtwork, PartRecommendations}

// Metadata is what there is to know of a title.
type Metadata struct {
	Name   string    `json:"name"`
	Tags   []string  `json:"tags"` // in no order
	Starts time.Time `json:"starts"`
	Ends   time.Time `json:"ends"`
}

// Stream is where to play a title from. The URL is signed, and no good after
// Expires.
type Stream struct {
	URL     string    `json:"url"`
	Expires time.Time `json:"expires"`
}

// Ad is one spot of a pod. Which one it is rotates.
type Ad struct {
	Pod   string `json:"pod"`
	Spot  int    `json:"spot"`
	Brand string `json:"brand"`
}

// PodOf is the ad pod of a title: titles share a few.
func PodOf(id string) string {
	var sum int
	for _, b := range []byte(id) {
		sum += int(b)
	}
	return fmt.Sprintf("pod-%d", sum%podCount)
}

const podCount = 8

// Artwork is what a title looks like.
type Artwork struct {
	Poster   string `json:"poster"`
	Backdrop string `json:"backdrop"`
}

// Title is what a player is told of a title: the parts that it asked for, those
// that it could not have left out.
type Title struct {
	ID              string    `json:"id"`
	Stream          *Stream   `json:"stream,omitempty"`
	Metadata        *Metadata `json:"metadata,omitempty"`
	Ads             []Ad      `json:"ads,omitempty"`
	Artwork         *Artwork  `json:"artwork,omitempty"`
	Recommendations []string  `json:"recommendations,omitempty"`
}

// Answer is the body of GET /v1/playback.
type Answer struct {
	Titles  []Title  `json:"titles"`            // those that exist, in the order in which they were asked for
	Unknown []string `json:"unknown,omitempty"` // there is no such title

	// Shed are parts that are left out on purpose at the present DEFCON level,
	// Incomplete those that some title should have and has not.
	Shed       []Part `json:"shed,omitempty"`
	Incomplete []Part `json:"incomplete,omitempty"`

	// Retry says that asking again at once may help. Players that are told
	// false, or nothing, show what they have got.
	Retry bool `json:"retry,omitempty"`
}
