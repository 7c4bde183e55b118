package dewar_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/memory"
)

// A page shows 50 videos and the catalog fails for one of them. The handler
// answers with the 49 that it got, and says that the page is not complete: the
// map holds everything obtained, also when err is not nil.
func ExampleCache_GetMany() {
	type Video struct {
		ID    string `json:"id"`
		Title string `json:"title"`
	}
	catalog := func(_ context.Context, ids []string) (map[string]Video, error) {
		videos := make(map[string]Video)
		var failed dewar.BatchError[string]
		for _, id := range ids {
			if id == "v13" {
				failed.Errs = append(failed.Errs, dewar.KeyError[string]{Key: id, Err: errors.New("shard 3 is down")})
				continue
			}
			videos[id] = Video{id, "Title of " + id}
		}
		return videos, &failed
	}
	videos, err := dewar.New(dewar.Config[string, Video]{
		Name:     "videos",
		TTL:      30 * time.Second,
		Local:    memory.Config[Video]{MaxEntries: 100_000},
		LoadMany: catalog,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer videos.Close()

	handler := func(w http.ResponseWriter, r *http.Request) {
		var page struct {
			Videos  []Video `json:"videos"`
			Missing int     `json:"missing"`
		}
		ids := strings.Split(r.FormValue("ids"), ",")
		found, err := videos.GetMany(r.Context(), ids)
		for _, id := range ids {
			if v, ok := found[id]; ok { // a video that does not exist is absent as well
				page.Videos = append(page.Videos, v)
			}
		}
		if failed, ok := errors.AsType[*dewar.BatchError[string]](err); ok {
			page.Missing = len(failed.Errs)
			w.Header().Set("Cache-Control", "no-store") // others should not keep half a page
		}
		if page.Missing == len(ids) {
			http.Error(w, "the catalog is down", http.StatusBadGateway)
			return
		}
		json.NewEncoder(w).Encode(page)
	}

	var ids []string
	for i := range 50 {
		ids = append(ids, fmt.Sprint("v", i))
	}
	w := httptest.NewRecorder()
	handler(w, httptest.NewRequest("GET", "/?ids="+strings.Join(ids, ","), nil))
	fmt.Println(w.Code, strings.Count(w.Body.String(), `"title"`), "videos")
	fmt.Println(w.Header().Get("Cache-Control"))
	// Output:
	// 200 49 videos
	// no-store
}
