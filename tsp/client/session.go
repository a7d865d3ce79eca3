package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
)

const (
	// brokerLimit bounds a session from its first connection to accept.
	brokerLimit = time.Minute
	// minRenew is the shortest time between two sessions of one lease.
	minRenew = 10 * time.Second
)

// ask has a whole session with one broker, or two where a NAT is on the way: over TCP the
// broker has no tunnel for that, but it has one in UDP. What was lost of the first session
// need not be lost again.
func (a *attempt) ask(ctx context.Context, where place) (*Lease, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, brokerLimit, errTooLong)
	defer cancel()
	source, err := a.cfg.Network.Source(where.at.Addr())
	if err != nil {
		return nil, fail(Connect, where.server, fmt.Errorf("%w: %w", errNoRoute, err))
	}
	a.post(ctx, func() { a.note(endpoints{where.at.Addr(), source}) })
	l, lease, err := a.session(ctx, where, source)
	if l != nil && a.wantsUDP(l, err) {
		a.log.Info("the broker has no tunnel for us over TCP, asking over UDP for one in UDP", "error", err)
		cfg := *a.cfg
		cfg.Request.Type = tsp.V6UDPV4
		inUDP := *a
		inUDP.cfg = &cfg
		_, lease, err = inUDP.session(ctx, where, source)
	}
	return lease, err
}

// wantsUDP reports whether err is a refusal of what may be had over UDP.
func (a *attempt) wantsUDP(l *link, err error) bool {
	return refusesType(err) && l.over == TCP && a.cfg.Transport == Auto &&
		a.cfg.Request.Type == tsp.V6AnyV4 && !a.cfg.Request.Proxy && l.offer.Offers(tsp.V6UDPV4)
}

func refusesType(err error) bool {
	var status *tsp.Error
	return errors.As(err, &status) && status.Code == tsp.BadType
}

// session is one from VERSION to accept. The link is nil when the broker did not greet.
func (a *attempt) session(ctx context.Context, where place, source netip.Addr) (*link, *Lease, error) {
	l, err := a.hello(ctx, where)
	if err != nil {
		return nil, nil, err
	}
	if !l.local.Is4() {
		l.local = source
	}
	lease, err := a.negotiate(ctx, l)
	if err != nil {
		l.conn.Close()
		return l, nil, err
	}
	lease.source = source
	return l, lease, nil
}

// negotiate walks a session from the broker's offer to accept.
func (a *attempt) negotiate(ctx context.Context, l *link) (*Lease, error) {
	a.tell(ctx, Connected{Broker: l.at, Local: l.local, Transport: l.over, Version: l.version})
	lease := &Lease{
		Server: l.server, Broker: l.at, Local: l.local, Version: l.version,
		Transport: l.over, Conn: l.conn, Offers: l.offer.Tunnels,
		Merged: l.offer.Merged,
	}
	if err := a.authenticate(ctx, l, lease); err != nil {
		return nil, l.fail(Authenticate, err)
	}
	r := a.cfg.request(l.local, l.offer)
	if !l.offer.Offers(r.Type) {
		return nil, l.fail(Offer, fmt.Errorf("tunnels of type %s are not offered, but %q", r.Type, l.offer.Tunnels))
	}
	if l.version == tsp.V101 {
		r.Type = tsp.V6V4 // it knows no other name
	}
	var err error
	if lease.Tunnel, err = a.create(ctx, l, &r); err != nil {
		return nil, err
	}
	if err := l.session.Accept(ctx); err != nil {
		return nil, l.fail(Accept, err)
	}
	lease.Since = time.Now()
	lease.Renew = renewAt(lease)
	return lease, nil
}

func (a *attempt) authenticate(ctx context.Context, l *link, lease *Lease) error {
	name, err := sasl.Choose(a.cfg.Method, l.offer.Auths, a.cfg.User)
	if err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	if lease.Method = name; name != sasl.Anonymous {
		lease.User = a.cfg.User
	}
	mechanism, err := sasl.NewClient(name, sasl.Credentials{
		User: a.cfg.User, Password: a.cfg.Password, Server: l.server.Host,
	})
	if err != nil {
		return fmt.Errorf("authenticate: %w: %w", errCredentials, err)
	}
	l.teller.secret = true
	defer func() { l.teller.secret = false }()
	return l.session.Authenticate(ctx, mechanism)
}

// create asks for a tunnel, and makes sure that this host can have it.
func (a *attempt) create(ctx context.Context, l *link, r *tsp.Request) (*tsp.Tunnel, error) {
	a.tell(ctx, Requesting{})
	t, err := l.session.Create(ctx, r)
	if refusesType(err) && r.Type == tsp.V6V4 && l.offer.Offers(tsp.V6UDPV4) {
		err = fmt.Errorf("%w; perhaps for a NAT on the way, which v6anyv4 and v6udpv4 go through", err)
	}
	if err != nil {
		return nil, l.fail(Create, err)
	}
	a.tell(ctx, Offered{t})
	if t.Type == tsp.V6UDPV4 && (l.over != UDP || r.Proxy) {
		return nil, l.fail(Create, fmt.Errorf("create: %w: type %s needs a flow of this host over UDP", tsp.ErrBadTunnel, t.Type))
	}
	own, err := a.cfg.Network.Own()
	if err != nil {
		return nil, l.fail(Setup, fmt.Errorf("networks of this host: %w", err))
	}
	if err := t.Conflict(own); err != nil {
		return nil, l.fail(Create, fmt.Errorf("create: %w", err))
	}
	if t.Type == tsp.V6V4 && !a.cfg.Request.Client.IsValid() && t.Client4 != l.local {
		a.log.Warn("the broker sees another address than ours: a NAT is on the way, which must pass protocol 41",
			"ours", l.local.String(), "seen", t.Client4.String())
	}
	return t, nil
}

// renewAt is when a new session takes the place of a lease: in time before the end of
// its lifetime. A tunnel that its keepalive watches lives longer, as brokers do not cut
// what is in use, and an anonymous user has every reason to stay.
func renewAt(l *Lease) time.Time {
	t := l.Tunnel
	if t.Lifetime == 0 || l.anonymous() && t.Keepalive > 0 {
		return time.Time{}
	}
	return l.Since.Add(max(t.Lifetime/4*3, minRenew))
}
