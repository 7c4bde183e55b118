package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dewarcache/dewar/examples/internal/pace"
)

// Video is what the platform knows of a video.
type Video struct {
	ID        string        `json:"id"`
	Title     string        `json:"title"`
	Channel   string        `json:"channel"`
	Length    time.Duration `json:"length"`
	Published time.Time     `json:"published"`
	Tags      []string      `json:"tags"`
	Ad        bool          `json:"ad"`
	Final     bool          `json:"final"`   // will not be edited any more
	Edition   int64         `json:"edition"` // of a title that a publisher changes; 0: nobody does
}

// The origin answers in 5 ms and some, one call in fifty takes up to 150 ms
// more, and it works on 32 calls at once: some 3,000 a second.
const (
	originSlots   = 32
	originBase    = 5 * time.Millisecond
	originSpread  = 3 * time.Millisecond // mean of an exponential
	originPerID   = 20 * time.Microsecond
	originTailOne = 50 // one call in so many
	originTail    = 150 * time.Millisecond

	// Down, it refuses after a moment, but one call in so many hangs first.
	originRefuse  = 5 * time.Millisecond
	originHangOne = 20
	originHang    = 500 * time.Millisecond
)

var errOriginDown = errors.New("catalogue: connection refused")

// origin simulates the catalogue service.
type origin struct {
	slots chan struct{} // a call waits here for its turn: this is what makes herds slow
	down  atomic.Bool
	calls atomic.Int64
	ids   atomic.Int64 // asked for in all calls

	premieres atomic.Int64 // how often premiereID was asked for
	ads       atomic.Int64 // how often ads were

	titles  map[string]bool // that a publisher changes; read only
	edition atomic.Int64    // that they are in, from 1 on
}

func newOrigin(titles []string) *origin {
	o := &origin{slots: make(chan struct{}, originSlots), titles: make(map[string]bool)}
	for _, id := range titles {
		o.titles[id] = true
	}
	o.edition.Store(1)
	return o
}

// Video answers for one id. What is changed while it works is not in the answer.
func (o *origin) Video(ctx context.Context, id string) (Video, error) {
	edition := o.edition.Load()
	if err := o.work(ctx, []string{id}); err != nil {
		return Video{}, err
	}
	return o.makeVideo(id, edition), nil
}

// Videos answers for many ids with one call.
func (o *origin) Videos(ctx context.Context, ids []string) (map[string]Video, error) {
	edition := o.edition.Load()
	if err := o.work(ctx, ids); err != nil {
		return nil, err
	}
	videos := make(map[string]Video, len(ids))
	for _, id := range ids {
		videos[id] = o.makeVideo(id, edition)
	}
	return videos, nil
}

// work takes the time that a call takes.
func (o *origin) work(ctx context.Context, ids []string) error {
	o.calls.Add(1)
	o.ids.Add(int64(len(ids)))
	for _, id := range ids {
		switch {
		case id == premiereID:
			o.premieres.Add(1)
		case isAd(id):
			o.ads.Add(1)
		}
	}
	if o.down.Load() {
		refuse := originRefuse
		if rand.IntN(originHangOne) == 0 {
			refuse = originHang
		}
		if err := pace.Pause(ctx, refuse); err != nil {
			return err
		}
		return errOriginDown
	}
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	took := originBase + time.Duration(rand.ExpFloat64()*float64(originSpread)) + time.Duration(len(ids))*originPerID
	if rand.IntN(originTailOne) == 0 {
		took += rand.N(originTail)
	}
	return pace.Pause(ctx, took)
}

var firstPublished = time.Date(2013, time.December, 1, 0, 0, 0, 0, time.UTC)

func isAd(id string) bool { return strings.HasPrefix(id, "ad-") }

func (o *origin) makeVideo(id string, edition int64) Video {
	v := Video{
		ID: id, Title: "The one about " + id, Channel: "channel-" + id[len(id)-1:],
		Length: time.Duration(len(id)) * time.Minute, Published: firstPublished,
		Tags:  []string{"simulated", "catalogue"},
		Ad:    isAd(id),
		Final: id == premiereID,
	}
	if o.titles[id] {
		v.Edition = edition
		v.Title += ", edition " + strconv.FormatInt(edition, 10)
	}
	return v
}
