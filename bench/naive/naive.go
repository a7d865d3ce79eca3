// Package naive is the reference that the engine is measured against: a 6in4
// tunnel (RFC 4213, protocol 41) as the usual small C program writes it. Two
// threads, one packet a time: read the TUN and sendto a raw socket, recv from
// the raw socket and write the TUN. No batch, no offload, no checks.
//
// It is meant to be as fast as such a loop can be, so its threads make raw
// blocking system calls that the Go scheduler does not see. That is sound only
// in a process that does little else: use it in a child process.
package naive

import (
	"context"
	"fmt"
	"net/netip"
)

// BufferSize is how many bytes of one packet the loop can carry.
const BufferSize = 4096

// Config is one tunnel. All fields but Ready are needed.
type Config struct {
	Name          string     // of the TUN interface, which must not exist yet
	Local, Remote netip.Addr // outer IPv4 addresses
	Ready         func()     // called once, when the interface is there
}

// Run makes the TUN interface and carries packets until ctx is done, then
// returns nil. The interface's address, MTU and state are the caller's.
//
// A blocking read cannot be woken by closing its descriptor, so the two threads
// stay in the kernel after Run has returned, and the interface stays too, until
// the process exits. The garbage collector is off from then on.
func Run(ctx context.Context, cfg Config) error {
	if !cfg.Local.Is4() || !cfg.Remote.Is4() {
		return fmt.Errorf("naive: outer addresses %v and %v: both must be IPv4", cfg.Local, cfg.Remote)
	}
	return run(ctx, cfg)
}
