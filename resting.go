package dewar

// A key rests after a failed load: for as long as Stale.RetryAfter says its
// stale value is served, and the origin is not asked.

// failure remembers that a load failed while there was a stale value to serve.
type failure struct {
	until     int64 // on Clock: until when the origin is not asked for the key
	tries     int   // failed loads in a row
	err       error
	fallsBack bool // readers may be answered with the stale value
}

// resting returns until when the origin is not to be asked for a key whose
// last load failed; 0 when it may be.
func (t *table[K, V]) resting(key string) int64 {
	s, _ := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing[key].until
}

// sweepLocked forgets failures when they have doubled since the last time:
// those of keys that nobody asks for again would stay for ever.
func (s *shard[K, V]) sweepLocked(now int64) {
	if len(s.failing) < s.sweepAt {
		return
	}
	for k, f := range s.failing {
		if now >= f.until {
			delete(s.failing, k)
		}
	}
	s.sweepAt = max(64, 2*len(s.failing))
}

// failedLocked remembers a failed load.
func (s *shard[K, V]) failedLocked(key string, now, rest int64, err error, fallsBack bool) {
	s.sweepLocked(now)
	s.failing[key] = failure{until: later(now, rest), tries: s.failing[key].tries + 1, err: err, fallsBack: fallsBack}
}

// shortRest is how long a stale value is served after its key could not be
// loaded here, though the origin has not failed.
const shortRest = int64(pollMaxWait) / 2

// restLocked makes a stale key rest for a moment from an instant on, unless it
// rests for longer.
func (s *shard[K, V]) restLocked(key string, from, now int64, err error) {
	s.sweepLocked(now)
	fail, until := s.failing[key], later(from, shortRest)
	if fail.until >= until || now >= until {
		return
	}
	fail.until, fail.err, fail.fallsBack = until, err, true
	s.failing[key] = fail
}
