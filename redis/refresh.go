package redistier

import (
	"context"

	"github.com/dewarcache/dewar"
)

// LeaseRefresh implements dewar.RemoteTier.
func (t *tier[V]) LeaseRefresh(ctx context.Context, keys []string, found []dewar.Found[V]) {
	failAll(found[:len(keys)], dewar.ErrClosed)
}

// Renew implements dewar.RemoteTier.
func (t *tier[V]) Renew(ctx context.Context, fills []dewar.Fill[V]) {
	for i := range fills {
		fills[i].Err = dewar.ErrClosed
	}
}
