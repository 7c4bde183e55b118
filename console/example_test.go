package console_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/console"
	"github.com/dewarcache/dewar/memory"
)

// The console of one cache, for operators who are signed in; those on call may
// also act.
func Example() {
	videos, err := dewar.New(dewar.Config[string, string]{
		Name: "videos", TTL: time.Minute, Track: 20, // the hottest keys may be shown
		Local: memory.Config[string]{},
		Load:  func(_ context.Context, id string) (string, error) { return "The video " + id, nil },
	})
	if err != nil {
		panic(err)
	}
	defer videos.Close()

	page := console.Handler(videos, console.Actions(func(r *http.Request) (who string, err error) {
		who, _, _ = r.BasicAuth()
		if who != "anna" {
			return who, errors.New("not on call")
		}
		return who, nil
	}))
	http.Handle("/debug/dewar/", signedIn(page))

	r := httptest.NewRequest("GET", "/debug/dewar/", nil)
	w := httptest.NewRecorder()
	http.DefaultServeMux.ServeHTTP(w, r)
	fmt.Println("a stranger gets", w.Code)

	r.SetBasicAuth("bob", "secret")
	w = httptest.NewRecorder()
	http.DefaultServeMux.ServeHTTP(w, r)
	fmt.Println("bob gets", w.Code, w.Header().Get("Content-Type"))

	// Output:
	// a stranger gets 401
	// bob gets 200 text/html; charset=utf-8
}

// signedIn stands for the owner's own authentication.
func signedIn(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "secret" {
			http.Error(w, "sign in", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}
