package metrics

import (
	"time"

	"sixin4/cmd/internal/control"
	"sixin4/encap"
)

// Tunnel adds what `sixin4 status` shows of a tunnel. Peers of a hub have no samples of
// their own: there may be tens of thousands.
func (p *Page) Tunnel(t control.Tunnel) {
	name := []string{"tunnel", t.Name}
	p.Gauge("sixin4_tunnel_up", "Whether packets can flow: 1 or 0.", truth(t.State == "up"), "tunnel", t.Name, "mode", t.Mode)
	p.Gauge("sixin4_tunnel_info", "How the tunnel is carried at present, and its IPv4 ends; always 1.", 1,
		"tunnel", t.Name, "wire", t.Wire, "local", t.Local, "remote", t.Remote)
	p.time("sixin4_tunnel_start_time_seconds", "When the tunnel was begun.", t.Since, name...)
	if t.MTU > 0 {
		p.Gauge("sixin4_tunnel_mtu_bytes", "Largest IPv6 packet of the interface.", float64(t.MTU), name...)
	}
	p.Counter("sixin4_tunnel_receive_packets_total", "IPv6 packets that came out of the tunnel.", t.Rx.Packets, name...)
	p.Counter("sixin4_tunnel_receive_bytes_total", "Their bytes, without outer headers.", t.Rx.Bytes, name...)
	p.Counter("sixin4_tunnel_transmit_packets_total", "IPv6 packets that went into the tunnel.", t.Tx.Packets, name...)
	p.Counter("sixin4_tunnel_transmit_bytes_total", "Their bytes, without outer headers.", t.Tx.Bytes, name...)
	for d := range encap.Drops() {
		p.Counter("sixin4_tunnel_drop_packets_total", "Packets that were refused, by reason.", t.Drops[d.String()],
			"tunnel", t.Name, "direction", direction(d), "reason", d.String())
	}
	p.peers(t)
	if t.Work != nil {
		p.work(t.Name, *t.Work)
	}
	if t.ICMP != nil {
		p.icmp(t.Name, *t.ICMP)
	}
	if t.FarEnd != nil {
		p.Gauge("sixin4_tunnel_far_end_up", "Whether the far end answers echo requests through the tunnel, and not only now and then: 1 or 0.",
			truth(t.FarEnd.State == "up"), name...)
		if t.FarEnd.RTT > 0 {
			p.rtt(t.Name, t.FarEnd.RTT)
		}
	}
	if t.PathMTU != nil {
		p.Gauge("sixin4_tunnel_path_mtu_bytes", "Largest IPv6 packet that the way to the far end was found to carry.", float64(t.PathMTU.MTU), name...)
	}
	if t.TSP != nil {
		p.Gauge("sixin4_tunnel_lease_lifetime_seconds", "How long the broker's lease lives.", float64(t.TSP.Lifetime), name...)
		p.time("sixin4_tunnel_next_negotiation_timestamp_seconds", "When the broker is asked next.", t.TSP.Next, name...)
	}
}

func (p *Page) peers(t control.Tunnel) {
	heard := t.OmittedHeard
	for _, peer := range t.Peers {
		if peer.LastHeard.After(heard) {
			heard = peer.LastHeard
		}
	}
	p.Gauge("sixin4_tunnel_peers", "Far ends.", float64(len(t.Peers)+t.PeersOmitted), "tunnel", t.Name)
	p.time("sixin4_tunnel_last_receive_timestamp_seconds", "When a packet was last taken from any far end.", heard, "tunnel", t.Name)
}

func (p *Page) work(name string, w control.Work) {
	for _, c := range []struct {
		what, help string
		n          uint64
	}{
		{"split", "Super-packets of the kernel that were cut.", w.Split},
		{"split_into", "Packets that super-packets of the kernel became.", w.SplitInto},
		{"joined", "Packets that were given to the kernel joined.", w.Joined},
		{"joined_into", "Super-packets that joined packets became.", w.JoinedInto},
		{"merged", "Packets that the kernel had merged when they came.", w.Merged},
		{"reassembled", "Packets that came in IPv4 fragments.", w.Reassembled},
		{"transmit_fragment", "IPv4 fragments that were sent.", w.Fragments},
		{"icmp_error", "ICMPv6 errors that were sent back.", w.ICMPErrors},
	} {
		p.Counter("sixin4_tunnel_"+c.what+"_packets_total", c.help, c.n, "tunnel", name)
	}
	p.Counter("sixin4_mss_clamped_total", "TCP packets whose maximum segment size was lowered.", w.MSSClamped, "tunnel", name)
}

func (p *Page) icmp(name string, c control.ICMP) {
	for k := range encap.ICMP4Kinds() {
		if _, ok := k.Unreachable(); ok {
			p.Counter("sixin4_icmp_relay_total", "ICMPv4 errors that inner senders were told of by ICMPv6.", c.Relayed[k.String()],
				"tunnel", name, "type", k.String())
		}
	}
}

// direction is where a packet that was dropped for d was going. The reasons are in
// the order of a packet's way, see package encap.
func direction(d encap.Drop) string {
	switch {
	case d >= encap.DropInnerShort && d < encap.DropECN || d == encap.DropPeerRate:
		return "any" // one counter for both
	case d >= encap.DropTunMalformed && d < encap.DropTunDown:
		return "transmit"
	}
	return "receive"
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Requests adds how the requests for a tunnel ended that this process made, or that
// were made to it, by result: a status of RFC 5572, Section 5, in digits, or, where
// there was none, how far the client came.
func (p *Page) Requests(byResult map[string]uint64) {
	for _, result := range sorted(byResult) {
		p.Counter("sixin4_tsp_requests_total", "Requests for a tunnel by their result, a status of TSP in digits, 200 for success.",
			byResult[result], "result", result)
	}
}

// Path is what a client of a broker knows of its way there.
type Path struct {
	EndpointChanges uint64        // of this host's IPv4 address
	RTT             time.Duration // through the tunnel, last measured; 0: it was not
}

// Path adds what is known of the way of one tunnel.
func (p *Page) Path(tunnel string, w Path) {
	p.Counter("sixin4_tunnel_endpoint_changes_total", "How often this host's IPv4 address changed under the tunnel.", w.EndpointChanges, "tunnel", tunnel)
	if w.RTT > 0 {
		p.rtt(tunnel, w.RTT.Seconds())
	}
}

func (p *Page) rtt(tunnel string, seconds float64) {
	p.Gauge("sixin4_tunnel_keepalive_rtt_seconds", "Time from the last answered echo request to its answer.", seconds, "tunnel", tunnel)
}
