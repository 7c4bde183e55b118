package redisd

import (
	"testing"
)

func TestAServerThatCrashedComesBackEmptyAtItsAddress(t *testing.T) {
	r, err := Open(Server{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rdb := r.Clients[0]
	if err := rdb.Set(t.Context(), "a", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r.Crash()
	if err := rdb.Get(t.Context(), "a").Err(); err == nil {
		t.Error("an answer after the crash")
	}
	if err := r.Replace(); err != nil {
		t.Fatal(err)
	}
	if n, err := rdb.DBSize(t.Context()).Result(); err != nil || n != 0 {
		t.Errorf("%d keys, %v", n, err)
	}
}

func TestSomebodysServerIsOnlyCutOff(t *testing.T) {
	theirs, err := startEmbedded()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.stop()
	srv, err := Find(t.Context(), theirs.addr)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(srv, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rdb := r.Clients[0]
	if err := rdb.Set(t.Context(), "a", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r.Crash()
	if err := rdb.Get(t.Context(), "a").Err(); err == nil {
		t.Error("an answer after the crash")
	}
	if err := r.Replace(); err != nil {
		t.Fatal(err)
	}
	if v, err := rdb.Get(t.Context(), "a").Result(); err != nil || v != "1" {
		t.Errorf("%q, %v", v, err)
	}
}
