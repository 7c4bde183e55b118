package memory

import (
	"testing"

	"github.com/dewarcache/dewar"
	"github.com/dewarcache/dewar/dewartest"
)

func openLocal[V any](t testing.TB, opener dewar.LocalOpener[V]) dewar.LocalTier[V] {
	t.Helper()
	tier, err := opener.OpenLocal("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tier.Close)
	return tier
}

func TestRistrettoEngineKeepsTheContract(t *testing.T) {
	dewartest.LocalTier(t, func(t *testing.T, maxEntries int) dewar.LocalTier[string] {
		return openLocal(t, Config[string]{MaxEntries: maxEntries})
	})
}

func TestRistrettoEngineKeepsTheContractWithCosts(t *testing.T) {
	dewartest.LocalTier(t, func(t *testing.T, maxEntries int) dewar.LocalTier[string] {
		cost := func(string, string) int64 { return 1 }
		return openLocal(t, Config[string]{MaxCost: int64(maxEntries), Cost: cost})
	})
}

func TestOtterEngineKeepsTheContract(t *testing.T) {
	dewartest.LocalTier(t, func(t *testing.T, maxEntries int) dewar.LocalTier[string] {
		return openLocal(t, Otter[string]{MaxEntries: maxEntries})
	})
}

func TestOtterEngineKeepsTheContractWithCosts(t *testing.T) {
	dewartest.LocalTier(t, func(t *testing.T, maxEntries int) dewar.LocalTier[string] {
		cost := func(string, string) int64 { return 1 }
		return openLocal(t, Otter[string]{MaxCost: int64(maxEntries), Cost: cost})
	})
}
