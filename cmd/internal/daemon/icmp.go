package daemon

import (
	"context"
	"net/netip"
	"time"

	"sixin4/cmd/internal/control"
	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/pathmtu"
	"sixin4/encap/wire"
)

// listenICMP gives the engine the ICMPv4 errors that come to this host, beside the loops:
// without them the tunnel works, but nobody is told of what happens on the way.
func (t *tunnel) listenICMP(ctx context.Context, ready func()) error {
	ready() // nobody waits for errors
	select {
	case <-t.begun:
	case <-ctx.Done():
		return nil
	}
	conn, err := wire.ListenICMP(wire.ICMPConfig{Interface: t.set.Bind, Logger: t.env.Logger})
	if err != nil {
		t.env.Logger.Warn("ICMPv4 errors about the tunnel are not seen", "name", t.name, "error", err)
		<-ctx.Done()
		return nil
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	msg := make([]byte, wire.MaxICMP)
	for ctx.Err() == nil {
		n, err := conn.Read(msg)
		if err != nil {
			return t.icmpEnd(ctx, err)
		}
		switch t.engine.ICMP(msg[:n]) {
		case engine.PathLowered:
			t.pathLowered()
		case engine.PeerRefuses:
			t.refusing.ring()
		}
	}
	return nil
}

// pathLowered keeps the kernel from sending what the path does not carry: it sends
// nothing until it has been told the new figure, which is at once.
func (t *tunnel) pathLowered() {
	t.short.withdraw()
	if t.hopper != nil {
		t.hopper.again.ring()
	}
}

// icmpEnd goes on without errors when the socket fails.
func (t *tunnel) icmpEnd(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		t.env.Logger.Warn("ICMPv4 errors about the tunnel are not seen any more", "name", t.name, "error", err)
		<-ctx.Done()
	}
	return nil
}

// behind reports whether an IPv6 address is reached otherwise than through the tunnel.
func (t *tunnel) behind(a netip.Addr) bool {
	route, err := t.env.host().RouteTo(a)
	return err == nil && route.Index != t.iface.Index
}

// carriedFrom is when the kernel last carried a packet of a peer.
func (t *tunnel) carriedFrom(netip.Addr) time.Time {
	if t.now.Load().hub {
		return time.Time{}
	}
	return t.short.stats().LastHeard
}

// learntMTU is mtu, or less when the path to a peer was found to carry less.
func (t *tunnel) learntMTU(remote netip.Addr, mtu encap.TunMTU) encap.TunMTU {
	if !t.running() {
		return mtu
	}
	if path := t.engine.PathMTU(remote); path != 0 {
		return min(mtu, path.Tun())
	}
	return mtu
}

// cutsFor reports whether packets of 1280 bytes go to a peer in fragments by what was
// learnt about its path.
func (t *tunnel) cutsFor(remote netip.Addr) bool {
	if !t.running() {
		return false
	}
	path := t.engine.PathMTU(remote)
	return path != 0 && path < smallestWire
}

// refused is why a peer has no tunnel for us, or nothing.
func refused(p engine.PeerStats) string {
	if p.Refused.IsZero() || p.LastHeard.After(p.Refused) {
		return ""
	}
	return "the far end does not take protocol 41 (ICMPv4 protocol unreachable): it has no tunnel to this host, " +
		"or a NAT in front of it does not pass it on; try a tunnel in UDP (sixin4 connect --mode v6udpv4)"
}

// refusal is why the only far end has no tunnel for us, or nothing.
func (t *tunnel) refusal() string {
	if !t.running() || t.now.Load().hub {
		return ""
	}
	reason := ""
	for p := range t.engine.Peers() {
		t.short.addPeer(&p)
		if reason = refused(p); reason == "" {
			return ""
		}
	}
	return reason
}

// heardInterval is how often is looked whether a far end that refused is heard.
const heardInterval = time.Second

// watchRefusal makes it a change of the tunnel's state that the far end refuses, and that
// it is heard after all.
func (t *tunnel) watchRefusal(ctx context.Context, ready func()) error {
	ready()
	for ctx.Err() == nil {
		refuses := t.refusing.wait()
		t.judge()
		var heard <-chan time.Time
		if t.refusal() != "" {
			heard = time.After(heardInterval)
		}
		select {
		case <-refuses:
		case <-heard:
		case <-ctx.Done():
		}
	}
	return nil
}

// icmpCounts is what came of ICMPv4 errors, those of them that have happened.
func icmpCounts(s engine.ICMPStats) *control.ICMP {
	c := control.ICMP{Relayed: map[string]uint64{}, Ignored: map[string]uint64{}, Learnt: s.Paths[pathmtu.Lowered]}
	for k := range encap.ICMP4Kinds() {
		note(c.Relayed, k.String(), s.Relayed[k])
	}
	for d := range encap.Doubts() {
		note(c.Ignored, d.String(), s.Doubted[d])
	}
	for v := range pathmtu.Verdict(pathmtu.NumVerdicts) {
		if v.Ignored() {
			note(c.Ignored, v.String(), s.Paths[v])
		}
	}
	return &c
}

func note(list map[string]uint64, name string, n uint64) {
	if n > 0 {
		list[name] = n
	}
}
