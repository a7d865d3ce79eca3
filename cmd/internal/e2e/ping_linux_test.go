package e2e

import (
	"fmt"
	"net"
	"testing"
)

// TestPing: echo of many sizes through the tunnel, both ways, and on each path.
func TestPing(t *testing.T) {
	for _, c := range []struct{ portsA, portsB bool }{{false, false}, {true, false}, {false, true}} {
		t.Run(fmt.Sprintf("portable %t and %t", c.portsA, c.portsB), func(t *testing.T) {
			top := pair(t)
			ea, eb := ends(top)
			ea.ports, eb.ports = c.portsA, c.portsB
			a, b := tunnel(t, ea), tunnel(t, eb)
			there, back := icmp(t, a.ns, innerA), icmp(t, b.ns, innerB)
			for i, n := range []int{4, 1000, 1432, 1433, 5000} { // from 1433 on in IPv6 fragments
				if err := echo(there, &net.IPAddr{IP: net.ParseIP(innerB)}, uint16(i), n); err != nil {
					t.Errorf("A to B, %d bytes: %v", n, err)
				}
				if err := echo(back, &net.IPAddr{IP: net.ParseIP(innerA)}, uint16(i), n); err != nil {
					t.Errorf("B to A, %d bytes: %v", n, err)
				}
			}
			link := icmp(t, a.ns, "::")
			_, index := mac(t, a.ns, device)
			if err := echo(link, &net.IPAddr{IP: linkLocal(b.local).AsSlice(), Zone: fmt.Sprint(index)}, 99, 9); err != nil {
				t.Errorf("link-local: %v", err)
			}
			a.drops(t)
			b.drops(t)
			if sa, sb := a.eng.Stats(), b.eng.Stats(); sa.Rx.Packets < 14 || sb.Rx.Packets < 14 || sa.Rx.Bytes > sb.Tx.Bytes || sb.Rx.Bytes > sa.Tx.Bytes {
				t.Errorf("A %v %v, B %v %v", sa.Tx, sa.Rx, sb.Tx, sb.Rx)
			}
		})
	}
}
