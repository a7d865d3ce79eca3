//go:build race

package engine

// raceEnabled: the race detector allocates on its own, so that allocations are
// not counted.
const raceEnabled = true
