// Package outage holds the checks that no reader notices when Redis fails: its
// tests stop, kill, starve, mute and corrupt real servers under two caches of
// a fleet, one test for each row of the table in docs/OPERATIONS.md.
package outage
