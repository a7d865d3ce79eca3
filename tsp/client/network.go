package client

import (
	"net/netip"
	"time"

	"sixin4/tsp"
)

// notice takes one change of the network. Those that follow within settleTime are part
// of it; however many follow, it takes no longer, so a network that never rests is
// looked at all the same.
func (r *run) notice() {
	r.heard++
	if !r.settling {
		r.settling = true
		r.settle.Reset(settleTime)
	}
}

// settled looks what a change of the network means.
func (r *run) settled() {
	if wait := rushGap - time.Since(r.rushed); wait > 0 {
		r.settle.Reset(wait)
		return
	}
	r.settling = false
	switch {
	case r.lease != nil && !r.down && r.follow():
	case r.try != nil && r.strayed():
		r.rush(reasonMoved)
	case r.try == nil && r.fails > 0 && r.curable && r.heard > 1: // the first says how it was at the start
		r.rush(reasonChanged)
	}
}

// rush starts an attempt because of a change.
func (r *run) rush(reason string) {
	r.rushed = time.Now()
	r.log.Info("the network has changed, connecting anew", "reason", reason)
	r.begin(reason)
}

// follow looks whether the tunnel still ends at an address of this host, and reports
// whether it has seen to what the change means.
func (r *run) follow() bool {
	now, err := r.cfg.Network.Source(r.lease.Broker.Addr())
	switch {
	case err != nil:
		if !r.offline {
			r.offline = true
			r.log.Warn(reasonOffline, "error", err)
		}
		r.publish(reasonOffline)
		return r.try == nil
	case r.bound() && now != r.lease.Local && now != r.lease.source:
		r.log.Info(reasonMoved, "old", r.lease.Local.String(), "new", now.String())
		r.cfg.Observe(AddressChanged{Old: r.lease.Local, New: now})
		r.vigil.stop()
		r.vigil, r.down = nil, true
		r.young = 0 // what was elsewhere says nothing of here
		r.rush(reasonMoved)
		return true
	case r.offline:
		r.offline = false
		r.log.Info("the network is back")
		r.publish("")
	}
	return false
}

// bound reports whether the tunnel ends at the address that the broker was spoken to from.
func (r *run) bound() bool {
	return !r.cfg.Request.Client.IsValid() || r.lease.Tunnel.Type == tsp.V6UDPV4
}

// strayed reports whether the attempt speaks from an address that packets to the broker
// do not leave from any more, so that it would wait in vain.
func (r *run) strayed() bool {
	if r.at == (endpoints{}) {
		return false
	}
	now, err := r.cfg.Network.Source(r.at.broker)
	return err != nil || now != r.at.local
}

// endpoints are the outer addresses of a session.
type endpoints struct{ broker, local netip.Addr }
