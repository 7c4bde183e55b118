package memory

import "github.com/dewarcache/dewar"

// CostOf returns what keeping an entry costs, in the unit of MaxCost; 0 where
// there is none, since entries then count as 1 each.
func (t *tier[V, W]) CostOf(key string, e *dewar.Entry[V]) int64 {
	return costOrNone(t.weigh(key, e))
}

// CostOf returns what keeping an entry costs, in the unit of MaxCost; 0 where
// there is none, since entries then count as 1 each.
func (t *otterTier[V, W]) CostOf(key string, e *dewar.Entry[V]) int64 {
	return costOrNone(t.weigh(key, e))
}

func costOrNone(w weight) int64 {
	if c, ok := w.(cost); ok {
		return int64(c)
	}
	return 0
}
