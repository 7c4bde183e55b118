package main

import (
	"os"
	"testing"
)

func TestTheLineThatCountsIsFoundAndLeftOut(t *testing.T) {
	dir := t.TempDir()
	overlay, err := withoutCounting(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := build(dir+"/without", "-overlay", overlay); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir + "/without"); err != nil || info.Size() == 0 {
		t.Error(info, err)
	}
}
