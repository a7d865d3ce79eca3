package daemon

import (
	"errors"
	"fmt"

	"sixin4/cmd/internal/control"
	"sixin4/encap"
)

// proxyPrefix is what the names of tunnels without an interface begin with.
const proxyPrefix = "proxy-"

// openControl opens the control socket: the one that was asked for, or one in the usual
// place, without which the proxy does as well.
func (p *proxied) openControl() (err error) {
	if p.cfg.Socket != "" {
		p.name = proxyPrefix + "0"
		if p.control, err = p.listenControl(p.cfg.Socket); err != nil {
			return socketError(err)
		}
		return nil
	}
	const most = 1000
	for i := 0; i < most && len(p.env.SocketDirs) > 0; i++ {
		p.name = fmt.Sprint(proxyPrefix, i)
		p.control, err = p.listenControl(control.Path(p.env.SocketDirs, p.name))
		if !errors.Is(err, control.ErrInUse) {
			break
		}
	}
	if err != nil {
		p.env.Logger.Debug("there is no control socket, and sixin4 status does not show this tunnel", "error", err)
	}
	return nil
}

func (p *proxied) listenControl(path string) (*control.Server, error) {
	return control.Listen(control.Config{Path: path, Status: p.status, Logger: p.env.Logger})
}

// status is the answer of the control socket.
func (p *proxied) status() control.Tunnel {
	now, l := p.client.Status(), p.lease.Load()
	s := control.Tunnel{
		Name: p.name, Mode: string(p.cfg.Mode), State: string(now.State), Reason: now.Reason,
		Wire: wireUDP, MTU: int(p.mtu.Load()), Since: p.since, Drops: map[string]uint64{},
		TSP: &control.TSP{Server: p.cfg.Servers[0].String(), User: p.cfg.User, Next: now.Next},
	}
	if l == nil {
		return s
	}
	s.Local, s.Remote = l.Local.String(), l.Broker.Addr().String()
	s.Addresses = []string{single(l.Tunnel.Client6).String()}
	s.TSP.Server, s.TSP.Lifetime = l.Server.String(), int(l.Tunnel.Lifetime.Seconds())
	stats, device, wire := p.engine.Totals(), p.device.Stats(), p.wire.Stats()
	s.Tx, s.Rx = count(stats.Tx), count(stats.Rx)
	stats.Drops[encap.DropWireOverflow] += wire.Overflow
	for d := range encap.Drops() {
		note(s.Drops, d.String(), stats.Drops[d])
	}
	s.Work = &control.Work{
		Split: device.Split, SplitInto: device.SplitInto, Joined: device.Joined,
		Merged: wire.Merged, Reassembled: wire.Reassembled, ICMPErrors: stats.ICMPErrors, MSSClamped: stats.Clamped,
	}
	for e := range p.engine.Peers() {
		s.Peers = append(s.Peers, control.Peer{
			Remote: l.Broker.String(), Prefixes: texts(e.Prefixes), MTU: s.MTU, LastHeard: e.LastHeard, Tx: count(e.Tx), Rx: count(e.Rx),
		})
	}
	return s
}
