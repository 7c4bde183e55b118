package legacy

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dewarcache/dewar/examples/playback/wire"
)

func start(t *testing.T) *Legacy {
	t.Helper()
	s, err := Start(Options{Titles: 10, Archive: 10, StreamValid: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func do(t *testing.T, s *Legacy, method, target string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func get(t *testing.T, s *Legacy, target string) (int, string) {
	t.Helper()
	return do(t, s, http.MethodGet, target)
}

func TestServicesAnswerForWhatExists(t *testing.T) {
	s := start(t)
	for target, want := range map[string]struct {
		status int
		keys   string // of the answer, where it is about many
	}{
		"/metadata?ids=title-0001,title-0010,archive-0009,title-1": {200, "archive-0009 title-0001"},
		"/artwork?ids=title-0001":                                  {200, "title-0001"},
		"/recommendations?ids=archive-0000":                        {200, "archive-0000"},
		"/ads?pods=pod-1,pod-2":                                    {200, "pod-1 pod-2"},
		"/metadata?ids=":                                           {200, ""},
		"/streams/title-0009":                                      {200, "expires url"},
		"/streams/title-0010":                                      {404, ""},
		"/streams/title--001":                                      {404, ""},
	} {
		status, body := get(t, s, target)
		if status != want.status {
			t.Errorf("%s: %d", target, status)
		}
		var m map[string]any
		if status == 200 && json.Unmarshal([]byte(body), &m) != nil {
			t.Errorf("%s: %s", target, body)
		}
		var keys []string
		for _, k := range strings.Fields(want.keys) {
			if _, ok := m[k]; ok {
				keys = append(keys, k)
			}
		}
		if len(m) != len(keys) || strings.Join(keys, " ") != want.keys {
			t.Errorf("%s: %s", target, body)
		}
	}
}

func TestTheOldAnswerFailsWithAnyServiceThatItNeeds(t *testing.T) {
	s := start(t)
	const target = "/v1/playback?ids=title-0001,nothing,title-0001&parts=metadata,ads"
	status, body := get(t, s, target)
	var a wire.Answer
	if err := json.Unmarshal([]byte(body), &a); err != nil || status != 200 || len(a.Titles) != 1 || len(a.Unknown) != 1 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	if x := a.Titles[0]; x.Metadata == nil || x.Ads == nil || x.Stream != nil || x.Artwork != nil {
		t.Errorf("%+v", x)
	}
	s.Break(Streams, 1, 0)
	if status, _ := get(t, s, target); status != 200 {
		t.Errorf("%d though it needs no stream", status)
	}
	s.Break(Ads, 1, 0)
	if status, _ := get(t, s, target); status != 503 {
		t.Errorf("%d without ads", status)
	}
	if c := s.Counts(); c[Ads].Old != 3 || c[Ads].Calls != 0 {
		t.Errorf("%+v", c)
	}
}

func TestExtraTimeIsOnlyForTonight(t *testing.T) {
	s := start(t)
	before := s.metadataOf("archive-0001").Ends
	if ends := s.Extend(); !s.metadataOf("title-0001").Ends.Equal(ends) || !ends.After(before) {
		t.Error("the schedule did not change")
	}
	if !s.metadataOf("archive-0001").Ends.Equal(before) {
		t.Error("the archive did")
	}
}

func TestFaultsAndLimitsAreSwitchedByHTTP(t *testing.T) {
	s := start(t)
	put := func(target string, want int) {
		t.Helper()
		if status, body := do(t, s, http.MethodPut, target); status != want {
			t.Errorf("%s: %d %s", target, status, body)
		}
	}
	put("/chaos/streams?fail=1", 200)
	if status, _ := get(t, s, "/streams/title-0001"); status != 503 {
		t.Errorf("%d though it fails", status)
	}
	put("/chaos/streams?latency=1ms", 200) // what is not named stays
	if status, _ := get(t, s, "/streams/title-0001"); status != 503 {
		t.Errorf("%d though it still fails", status)
	}
	put("/chaos/ads?per_second=0.001&at_once=1", 200)
	refused := 0
	for range 5 {
		if status, _ := get(t, s, "/ads?pods=pod-1"); status == 429 {
			refused++
		}
	}
	if n := s.Counts()[Ads].Refused; refused != 4 || n != 4 {
		t.Errorf("%d refused, counted %d", refused, n)
	}
	for _, target := range []string{
		"streams?fail=2", "streams?fail=-1", "streams?fail=NaN", "streams?fail=x", "streams?latency=-1s", "streams?latency=5",
		"streams?at_once=0", "streams?per_second=0", "streams?per_second=Inf", "streams?soul=1", "streams?fail=",
	} {
		put("/chaos/"+target, 400)
	}
	put("/chaos/souls?fail=1", 404)
	var state map[string]struct {
		Fail    float64 `json:"fail"`
		Latency string  `json:"latency"`
		AtOnce  int     `json:"at_once"`
	}
	_, body := get(t, s, "/chaos")
	if err := json.Unmarshal([]byte(body), &state); err != nil || state[Streams].Fail != 1 || state[Streams].Latency != "1ms" || state[Ads].AtOnce != 1 {
		t.Errorf("%v %s", err, body)
	}
	if status, _ := do(t, s, http.MethodDelete, "/chaos"); status != 200 {
		t.Errorf("DELETE: %d", status)
	}
	if status, _ := get(t, s, "/streams/title-0001"); status != 200 {
		t.Errorf("%d though it was healed", status)
	}
}

func TestCallsBeyondWhatAServiceBearsAtOnceAreRefused(t *testing.T) {
	s := start(t)
	s.Break(Streams, 0, 200*time.Millisecond)
	bears := s.AtOnce(Streams)
	var wg sync.WaitGroup
	var mu sync.Mutex // mu guards statuses
	statuses := make(map[int]int)
	for range 2 * bears {
		wg.Go(func() {
			status, _ := get(t, s, "/streams/title-0001")
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
		})
	}
	wg.Wait()
	c := s.Counts()[Streams]
	if int(c.Peak) > bears || statuses[200] < bears || statuses[200]+statuses[429] != 2*bears || int(c.Refused) != statuses[429] {
		t.Errorf("%v, %+v", statuses, c)
	}
	if status, _ := get(t, s, "/streams/title-0001"); status != 200 {
		t.Errorf("%d though nobody is there any more", status)
	}
}
