package redistier

import (
	"context"

	"github.com/dewarcache/dewar"
)

// Announce implements dewar.RemoteTier.
func (t *tier[V]) Announce(ctx context.Context, kind dewar.AnnouncementKind, keys []string, places []dewar.Place, errs []error) {
	fill(errs, nil)
}

// NextEpoch implements dewar.RemoteTier.
func (t *tier[V]) NextEpoch(ctx context.Context) error { return nil }
