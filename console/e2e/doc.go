// Package e2e drives the console's page in a real browser. It is a module of
// its own, since it needs one, and a library to drive it: there is nothing here
// to import.
//
//	go test .                    # wants chromium or google-chrome on the PATH
//	go test . -args -shots=DIR   # also writes screenshots there
package e2e
