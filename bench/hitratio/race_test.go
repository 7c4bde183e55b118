//go:build race

package main

// Under the race detector figures mean nothing: what runs is only to be raced.
const raced = true
