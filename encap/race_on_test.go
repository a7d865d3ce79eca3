//go:build race

package encap

// raceEnabled: the race detector allocates on its own, so that allocations are
// not counted.
const raceEnabled = true
