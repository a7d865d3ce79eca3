package broker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"sixin4/tsp"
)

// create asks the Provisioner for a tunnel and offers it.
func (s *session) create(ctx context.Context, r *tsp.Request) []reply {
	if other, ok := s.divert(); ok {
		return other
	}
	ask, err := s.ask(r)
	if err != nil {
		return s.refuseFor(err)
	}
	g, err := s.config.Provisioner.Offer(ctx, ask)
	if err != nil {
		return s.refuseFor(err)
	}
	text, err := g.offer(ask)
	if err == nil && !s.fits(text) {
		s.drop(DropSize)
		err = &tsp.Error{Code: tsp.Busy}
	}
	if err != nil && g != nil {
		s.config.Provisioner.Close(g, false)
	}
	if err != nil {
		return s.refuseFor(err)
	}
	s.grant, s.state = g, offered
	if !s.version.Accepts() {
		if err := s.open(ctx); err != nil {
			return s.refuseFor(err)
		}
	}
	return []reply{text}
}

// ask is what a request comes to.
func (s *session) ask(r *tsp.Request) (Ask, error) {
	a := Ask{
		User: s.user, Request: r, Version: s.version, Outer: s.from.Addr(), From: s.from, Conn: s.socket,
		Hears: s.proven || s.socket == nil, Merged: r.Merged,
	}
	if !a.Outer.Is4() {
		return a, &tsp.Error{Code: tsp.BadIPv4}
	}
	if r.Proxy {
		a.Outer = r.Client
	}
	if r.Proxy && (r.Type == tsp.V6UDPV4 || !s.config.Proxy(s.user, s.from, r.Client)) {
		return a, &tsp.Error{Code: tsp.BadType}
	}
	for _, t := range s.types(r) {
		if slices.Contains(s.config.Carries, t) {
			a.Type = t
			return a, nil
		}
	}
	return a, &tsp.Error{Code: tsp.BadType}
}

// types are those that answer a request, the best one first. A client behind NAT,
// which shows in its own idea of its address, can have no protocol 41, and v6udpv4
// travels on the flow that it is asked for on (RFC 5572, Section 4.7.1, from memory).
func (s *session) types(r *tsp.Request) (all []tsp.Type) {
	direct := r.Proxy || r.Client == s.from.Addr()
	if direct && r.Type.Allows(tsp.V6V4) {
		all = append(all, tsp.V6V4)
	}
	if s.socket != nil && !r.Proxy && s.version != tsp.V101 && r.Type.Allows(tsp.V6UDPV4) {
		all = append(all, tsp.V6UDPV4)
	}
	return all
}

// offer is a grant as an answer.
func (g *Grant) offer(a Ask) ([]byte, error) {
	if g == nil || g.Tunnel == nil {
		return nil, errors.New("offer: no tunnel")
	}
	if t := g.Tunnel; t.Type != a.Type || t.Client4 != a.Outer {
		return nil, fmt.Errorf("offer %s: %s to %v where %s to %v was asked for", g.ID, t.Type, t.Client4, a.Type, a.Outer)
	}
	m, err := g.Tunnel.Message()
	if err != nil {
		return nil, fmt.Errorf("offer %s: %w", g.ID, err)
	}
	return m.Bytes(), nil
}

// accept is the moment in which a tunnel comes up. On a stream nobody hears whether
// it does, so the end of the connection has to say that it does not.
func (s *session) accept(ctx context.Context, _ *tsp.Request) []reply {
	err := s.open(ctx)
	if err == nil {
		return silence
	}
	refusal := s.refuseFor(err)
	if s.socket == nil {
		s.end()
		return silence
	}
	return refusal
}

// open makes the tunnel of the offer carry packets, or gives the offer up.
func (s *session) open(ctx context.Context) error {
	if err := s.config.Provisioner.Accept(ctx, s.grant); err != nil {
		s.release(false)
		s.state = command
		return err
	}
	s.state = up
	s.counters.count(func(c *Stats) { c.Tunnels++ })
	t := s.grant.Tunnel
	s.config.Logger.Info("tunnel", keyID, s.grant.ID, keyUser, s.name(), keyFrom, s.from, keyTransport, s.transport(),
		keyType, t.Type, keyOuter, t.Client4, keyInner, t.Client6, keyPrefix, prefix(t.Prefix))
	return nil
}

// name is who the client is, for the log.
func (s *session) name() string {
	if s.user == nil {
		return ""
	}
	return s.user.Name
}

func prefix(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// forget gives up the offer, or the tunnel; the client may ask for another.
func (s *session) forget(context.Context, *tsp.Request) []reply {
	s.config.Provisioner.Close(s.grant, false)
	s.grant, s.state = nil, command
	return []reply{tsp.Success.Message(true).Bytes()}
}

// info says again what was offered.
func (s *session) info(context.Context, *tsp.Request) []reply {
	m, err := s.grant.Tunnel.Message()
	if err != nil {
		return s.refuseFor(err)
	}
	text := m.Bytes()
	if !s.fits(text) {
		s.drop(DropSize)
		return s.refuse(tsp.Busy)
	}
	return []reply{text}
}
