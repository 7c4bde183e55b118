package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dewarcache/dewar/examples/internal/tape"
	"github.com/dewarcache/dewar/examples/playback/legacy"
	"github.com/dewarcache/dewar/examples/playback/wire"
)

// visit is what a viewer does.
type visit uint8

const (
	visitUsual   visit = iota // plays a title; one in three looks at a page of titles first
	visitAds                  // asks for the next ads of what is playing
	visitRestart              // looks at the start page, with titles watched years ago, then plays
)

const (
	pageSize   = 10
	population = 20_000 // viewers there are
	maxTries   = 4      // of an app that retries
)

// players make up what viewers do, and do it. What they ask for follows from
// the seed alone.
type players struct {
	url      string
	http     *http.Client
	patience time.Duration

	random *rand.Rand // used by next only, one visit at a time
	titles *tape.Tape
	at     int // in titles

	counts *counts // of the act; set while nobody plays
}

func newPlayers(url string, set settings) *players {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 1024
	return &players{
		url: url, http: &http.Client{Transport: transport}, patience: set.patience,
		random: rand.New(rand.NewPCG(set.seed, 2)), titles: tape.Zipf(set.seed, titleCount),
	}
}

func (p *players) close() { p.http.CloseIdleConnections() }

// next makes up a visit, and returns what is done in it.
func (p *players) next(ctx context.Context, v visit) func(time.Time) {
	viewer := fmt.Sprintf("viewer-%d", p.random.IntN(population))
	title := p.title()
	var page []string
	switch {
	case v == visitRestart:
		for range pageSize / 2 {
			page = append(page, p.title(), legacy.ArchiveID(p.random.IntN(archiveCount)))
		}
	case v == visitUsual && p.random.IntN(3) == 0:
		for range pageSize {
			page = append(page, p.title())
		}
	}
	return func(time.Time) {
		p.counts.viewers.Add(1)
		if v == visitAds {
			p.ask(ctx, viewer, []string{title}, wire.PartAds)
			return
		}
		if page != nil {
			p.counts.pages.Add(1)
			p.ask(ctx, viewer, page, wire.PartMetadata, wire.PartArtwork, wire.PartRecommendations)
		}
		p.play(ctx, viewer, title)
	}
}

// title is the next one that somebody wants to see.
func (p *players) title() string {
	p.at++
	return schedule[p.titles.Keys[p.at%len(p.titles.Keys)]]
}

// play asks for everything that it takes to play a title. Without a stream that
// can be played it has failed, whatever else there was.
func (p *players) play(ctx context.Context, viewer, id string) {
	p.counts.plays.Add(1)
	a, err := p.ask(ctx, viewer, []string{id}, wire.Parts...)
	switch {
	case ctx.Err() != nil: // the night is off
	case err != nil:
		p.counts.fail(err)
	case len(a.Titles) == 0 || a.Titles[0].Stream == nil:
		p.counts.fail(fmt.Errorf("%s: no stream URL; incomplete: %v", id, a.Incomplete))
	case !time.Now().Before(a.Titles[0].Stream.Expires):
		p.counts.fail(fmt.Errorf("%s: the stream URL has expired", id))
	}
}

// ask asks, and asks again at once while the answer is incomplete and says that
// the app may.
func (p *players) ask(ctx context.Context, viewer string, ids []string, parts ...wire.Part) (a wire.Answer, err error) {
	for try := 1; ; try++ {
		begun := time.Now()
		a, err = p.get(ctx, viewer, ids, parts)
		p.counts.requests.Add(1)
		p.counts.latency.Add(time.Since(begun))
		if !a.Retry || try == maxTries || ctx.Err() != nil {
			return a, err
		}
		p.counts.retries.Add(1)
	}
}

// get is one request, which is waited for as long as the viewer's patience
// lasts.
func (p *players) get(ctx context.Context, viewer string, ids []string, parts []wire.Part) (a wire.Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	names := make([]string, len(parts))
	for i, part := range parts {
		names[i] = string(part)
	}
	query := url.Values{"ids": {strings.Join(ids, ",")}, "parts": {strings.Join(names, ",")}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/v1/playback?"+query.Encode(), nil)
	if err != nil {
		return a, err
	}
	req.Header.Set("X-Viewer", viewer)
	resp, err := p.http.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return a, err
	case resp.Header.Get("Content-Type") == "application/json":
		err = json.Unmarshal(body, &a) // also of a 404 and a 503
	case resp.StatusCode != http.StatusOK:
		err = errors.New(strings.TrimSpace(string(body)))
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		stream, _, _ := strings.Cut(resp.Header.Get("Cache-Status"), ",") // the first, and what a title is played from
		err = fmt.Errorf("%s: %s; %s", strings.Join(ids, ","), resp.Status, stream)
	}
	return a, err
}

// crowd is n viewers who play one title at the same moment.
func (p *players) crowd(ctx context.Context, n int, id string) {
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-gate
			p.counts.viewers.Add(1)
			p.play(ctx, fmt.Sprintf("viewer-%d", i), id)
		})
	}
	close(gate)
	wg.Wait()
}

// inspector is a viewer whose requests are not among those that are counted.
const inspector = "inspector"

// countEnding is how many titles of the schedule viewers see ending at an
// instant.
func (p *players) countEnding(ctx context.Context, ends time.Time) (n int) {
	for ids := range slices.Chunk(schedule, 50) {
		a, _ := p.get(ctx, inspector, ids, []wire.Part{wire.PartMetadata})
		for _, t := range a.Titles {
			if t.Metadata != nil && t.Metadata.Ends.Equal(ends) {
				n++
			}
		}
	}
	return n
}

// missing is what viewers do not see of some titles.
func (p *players) missing(ctx context.Context, ids []string) []wire.Part {
	a, err := p.get(ctx, inspector, ids, wire.Parts)
	if err != nil || len(a.Titles) != len(ids) {
		return wire.Parts
	}
	return append(a.Shed, a.Incomplete...)
}
