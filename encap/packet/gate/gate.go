// Package gate lets a descriptor be closed while other goroutines are using
// it: close(2) alone neither wakes a thread that sleeps in poll(2) nor keeps a
// late read from hitting a descriptor number that was given out again.
package gate

import "time"

// A Gate is entered around every use of the descriptors it guards. Close wakes
// those who wait inside, shuts the gate, and runs the real close when the last
// one has left.
//
//	if !g.Enter() {
//		return os.ErrClosed
//	}
//	defer g.Leave()
type Gate struct{ gate }

// New returns an open gate. It fails when the system has no more descriptors.
func New() (*Gate, error) { return newGate() }

// Enter reports whether the gate is still open; if so, Leave must follow.
func (g *Gate) Enter() bool { return g.enter() }

// Leave ends what Enter began.
func (g *Gate) Leave() { g.leave() }

// Wait blocks until fd is readable or the gate is closed; in the latter case it
// returns os.ErrClosed. It is called between Enter and Leave.
func (g *Gate) Wait(fd int) error {
	_, err := g.wait(fd, false, -1)
	return err
}

// WaitWritable is Wait until fd can be written to, or until limit is over, which
// ready tells apart. A limit counts whole milliseconds.
func (g *Gate) WaitWritable(fd int, limit time.Duration) (ready bool, err error) {
	return g.wait(fd, true, int(limit.Milliseconds()))
}

// Close shuts the gate and calls release once, after everybody has left. It is
// idempotent: later calls return nil without calling release.
func (g *Gate) Close(release func() error) error { return g.close(release) }
