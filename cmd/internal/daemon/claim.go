package daemon

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
)

// mostClaims bounds the pairs of a hub that are claimed, as each is a descriptor.
const mostClaims = 64

// claims are the pairs of outer addresses that this tunnel has told others of. Two
// tunnels with the same pair in one network namespace both get all packets that come
// from the far end, and no socket option forbids that. A claim is a socket with a name
// in the abstract namespace, which goes with the process and is one for each network
// namespace. Anybody may take such a name, so that it is a reason to warn only.
type claims map[string]io.Closer

// become claims the pairs of s, gives those up that are not of s, and warns of those
// that another process has.
func (c claims) become(s shape, warn func(message string)) {
	wanted := make(map[string]bool)
	for _, p := range s.peers[:min(len(s.peers), mostClaims)] {
		name := claimName(s.local, p)
		wanted[name] = true
		if c[name] != nil {
			continue
		}
		l, err := net.Listen("unix", name)
		if err == nil {
			c[name] = l
		} else if errors.Is(err, syscall.EADDRINUSE) {
			warn(fmt.Sprintf("another tunnel has the same two ends, %s and %s: each of them gets the packets of both "+
				"(sixin4 status shows it)", s.local, p))
		}
	}
	for name, l := range c {
		if !wanted[name] {
			l.Close()
			delete(c, name)
		}
	}
}

func claimName(local netip.Addr, remote fmt.Stringer) string {
	return fmt.Sprintf("@sixin4 %s %s", local, remote)
}

func (c claims) close() error {
	c.become(shape{}, nil)
	return nil
}
