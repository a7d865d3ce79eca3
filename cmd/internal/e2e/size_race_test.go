//go:build race

package e2e

// raceEnabled: the race detector looks at every word of a checksum.
const raceEnabled = true
