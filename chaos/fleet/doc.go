// Package fleet checks what a fleet of processes on one Redis promises: real
// servers, and processes of the operating system that are stopped, killed and
// cut off. The test binary runs itself again for each process.
//
// Everything here is in its tests.
package fleet
