package platform

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"strconv"
	"sync/atomic"
)

// Rollout is the flag that moves viewers from the old path to the new, a
// percentage of them. It is sticky: a viewer stays on one path while the
// percentage does, and whoever is on the new path stays there when it grows.
// The zero value leaves everybody on the old path.
type Rollout struct{ percent atomic.Int32 }

// Set moves a percentage of the viewers, 0 to 100, to the new path.
func (r *Rollout) Set(percent int) error {
	if percent < 0 || percent > 100 {
		return fmt.Errorf("rollout: %d is no percentage: 0 to 100", percent)
	}
	r.percent.Store(int32(percent))
	return nil
}

// Percent returns what was last set.
func (r *Rollout) Percent() int { return int(r.percent.Load()) }

// New reports whether a viewer is on the new path.
func (r *Rollout) New(viewer string) bool { return placeOf(viewer) < int(r.percent.Load()) }

// placeOf is where a viewer stands among all, 0 to 99: by its hash, so that
// processes agree without talking.
func placeOf(viewer string) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte("rollout\x00" + viewer)) // not the place that another flag gives
	sum := h.Sum64()
	sum ^= sum >> 32 // the low bits of FNV alone are those of the last letters
	return int(sum % 100)
}

// ServeHTTP shows the flag, and sets it: PUT /rollout?percent=50.
func (r *Rollout) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method == http.MethodPut {
		percent, err := strconv.Atoi(req.FormValue("percent"))
		if err == nil {
			err = r.Set(percent)
		}
		if err != nil {
			http.Error(w, "PUT /rollout?percent=0..100", http.StatusBadRequest)
			return
		}
	}
	writeJSON(w, http.StatusOK, map[string]int{"percent": r.Percent()})
}
