package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"
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
	Final     bool          `json:"final"` // will not be edited any more
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
}

func newOrigin() *origin { return &origin{slots: make(chan struct{}, originSlots)} }

// Video answers for one id.
func (o *origin) Video(ctx context.Context, id string) (Video, error) {
	if err := o.work(ctx, []string{id}); err != nil {
		return Video{}, err
	}
	return makeVideo(id), nil
}

// Videos answers for many ids with one call.
func (o *origin) Videos(ctx context.Context, ids []string) (map[string]Video, error) {
	if err := o.work(ctx, ids); err != nil {
		return nil, err
	}
	videos := make(map[string]Video, len(ids))
	for _, id := range ids {
		videos[id] = makeVideo(id)
	}
	return videos, nil
}

// work takes the time that a call takes.
func (o *origin) work(ctx context.Context, ids []string) error {
	o.calls.Add(1)
	o.ids.Add(int64(len(ids)))
	if slices.Contains(ids, premiereID) {
		o.premieres.Add(1)
	}
	if o.down.Load() {
		refuse := originRefuse
		if rand.IntN(originHangOne) == 0 {
			refuse = originHang
		}
		if err := pause(ctx, refuse); err != nil {
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
	return pause(ctx, took)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var firstPublished = time.Date(2013, time.December, 1, 0, 0, 0, 0, time.UTC)

func makeVideo(id string) Video {
	return Video{
		ID: id, Title: "The one about " + id, Channel: "channel-" + id[len(id)-1:],
		Length: time.Duration(len(id)) * time.Minute, Published: firstPublished,
		Tags:  []string{"simulated", "catalogue"},
		Ad:    strings.HasPrefix(id, "ad-"),
		Final: id == premiereID,
	}
}
