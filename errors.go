package dewar

import (
	"context"
	"errors"
	"fmt"
)

// Errors that callers branch on, with errors.Is.
var (
	// ErrNotFound: the origin has no such key. A loader returns it (or an
	// error for which Config.NotFound is true); Get returns it, at once and
	// without asking while the answer is remembered.
	ErrNotFound = errors.New("dewar: not found")

	// ErrNotCached: a CacheOnly read found nothing it may serve.
	ErrNotCached = errors.New("dewar: not cached")

	// ErrClosed: the cache was closed.
	ErrClosed = errors.New("dewar: cache is closed")

	// ErrOverloaded: no slot for a call of the origin became free within
	// Guard.QueueTimeout. The origin was not asked.
	ErrOverloaded = errors.New("dewar: overloaded: no slot or turn for a load within Guard.QueueTimeout")

	// ErrTimeout: the flight took longer than Flight.Timeout, or, as
	// Result.Err, longer than Stale.SoftTimeout. It is also
	// context.DeadlineExceeded to errors.Is.
	ErrTimeout = fmt.Errorf("dewar: load timed out: %w", context.DeadlineExceeded)

	// ErrRecursiveLoad: a loader asked, directly or through other keys, for
	// the key that it is loading.
	ErrRecursiveLoad = errors.New("dewar: a loader asked for the key it is loading")

	// ErrLoaderExited: the loader ended its goroutine with runtime.Goexit.
	ErrLoaderExited = errors.New("dewar: the loader called runtime.Goexit")

	// ErrInvalidationPending: an Invalidate, Expire or Set is done in this
	// process, but the remote tier has not confirmed it yet. It is accepted,
	// not failed, and needs no retry: this process neither reads nor writes
	// the remote copy of the key until the deletion, repeated in the
	// background, is confirmed.
	ErrInvalidationPending = errors.New("dewar: invalidation not yet confirmed by the remote tier")
)

// Errors by which a RemoteTier tells why a Fill was not stored.
var (
	// ErrFenced: what Fill.Fence names was not there any more.
	ErrFenced = errors.New("dewar: fill refused: the key was written or deleted since")

	// ErrUnencodable: the value cannot be written to the remote tier at all:
	// it does not encode, or is larger than the tier's bound.
	ErrUnencodable = errors.New("dewar: value cannot be stored in the remote tier")
)

// PanicError is what every waiter of a load gets when the loader panicked.
type PanicError struct {
	Value any    // what the loader panicked with
	Stack []byte // the loader's stack, as by debug.Stack
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("dewar: loader panicked: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the panic's value when it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// KeyError is the failure of one key of a batch.
type KeyError[K comparable] struct {
	Key K
	Err error
}

func (e KeyError[K]) Error() string { return fmt.Sprintf("key %.64q: %v", fmt.Sprint(e.Key), e.Err) }

func (e KeyError[K]) withoutKey() string { return fmt.Sprintf("a key: %v", e.Err) }

// Unwrap returns why the key failed.
func (e KeyError[K]) Unwrap() error { return e.Err }

// BatchError says which keys of a batch failed, in request order. The keys
// that it does not name were answered. A LoadMany function may return one to
// fail some of its keys.
type BatchError[K comparable] struct {
	Errs []KeyError[K]
}

func (e *BatchError[K]) Error() string {
	switch len(e.Errs) {
	case 0:
		return "dewar: no key failed"
	case 1:
		return "dewar: " + e.Errs[0].Error()
	}
	return fmt.Sprintf("dewar: %d keys failed, the first: %v", len(e.Errs), e.Errs[0])
}

func (e *BatchError[K]) withoutKey() string {
	if len(e.Errs) == 0 {
		return e.Error()
	}
	return fmt.Sprintf("dewar: of %d keys the first failed: %v", len(e.Errs), e.Errs[0].Err)
}

// Unwrap returns one KeyError[K] per failed key.
func (e *BatchError[K]) Unwrap() []error {
	errs := make([]error, len(e.Errs))
	for i, ke := range e.Errs {
		errs[i] = ke
	}
	return errs
}

// For returns why k failed, or nil.
func (e *BatchError[K]) For(k K) error {
	for _, ke := range e.Errs {
		if ke.Key == k {
			return ke.Err
		}
	}
	return nil
}
