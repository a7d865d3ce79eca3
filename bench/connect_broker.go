package bench

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/tsptest"
	"sixin4/tun/nstest"
)

var (
	offeredServer = netip.MustParseAddr("2001:db8:1000::1")
	offeredClient = netip.MustParseAddr("2001:db8:1000::2")
	offeredDNS    = netip.MustParseAddr("2001:db8:53::1")
)

// brokerPause is a part of each negotiation in which the broker has two answers in a
// row to give, over TCP.
const brokerPause = tsp.AnswerPause

// broker is a scripted broker that runs in this process, with its sockets in a
// namespace.
type broker struct {
	script *tsptest.Broker
	cancel context.CancelFunc
	done   chan error // of TCP and of UDP
}

// startBroker serves the second host of a topology until close.
func startBroker(t *nstest.Topology) (*broker, error) {
	var (
		streams   net.Listener
		datagrams net.PacketConn
	)
	at := netip.AddrPortFrom(t.AddrB, client.DefaultPort).String()
	err := t.B.Do(func() (err error) {
		if streams, err = net.Listen("tcp4", at); err != nil {
			return err
		}
		if datagrams, err = net.ListenPacket("udp4", at); err != nil {
			return errors.Join(err, streams.Close())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &broker{cancel: cancel, done: make(chan error, 2)}
	b.script = tsptest.New(tsptest.Config{
		Users:  map[string]string{connectUser: connectPassword},
		Answer: offerOf(t.AddrB),
		Pause:  brokerPause,
	})
	go func() { b.done <- b.script.Serve(ctx, streams) }()
	go func() { b.done <- b.script.ServePackets(ctx, datagrams) }()
	return b, nil
}

// offerOf makes tunnels that end at server.
func offerOf(server netip.Addr) func(*tsp.Request, netip.Addr) (*tsp.Tunnel, error) {
	return func(r *tsp.Request, from netip.Addr) (*tsp.Tunnel, error) {
		return &tsp.Tunnel{
			Type: tsp.V6V4, Lifetime: 24 * time.Hour,
			Server4: server, Client4: from,
			Server6: offeredServer, Client6: offeredClient,
			DNS:       []netip.Addr{offeredDNS},
			Keepalive: r.Keepalive, KeepaliveTo: keepaliveTo(r),
		}, nil
	}
}

// keepaliveTo is whom to ask, when the client wants to ask at all.
func keepaliveTo(r *tsp.Request) netip.Addr {
	if r.Keepalive == 0 {
		return netip.Addr{}
	}
	return offeredServer
}

// next returns a function that waits for the next session, and says when it began and
// when its tunnel was accepted.
func (b *broker) next() func(context.Context) (hello, accept time.Time, err error) {
	session, tunnel := len(b.script.Sessions())+1, len(b.script.Accepts())+1
	return func(ctx context.Context) (hello, accept time.Time, err error) {
		if _, err = b.script.AwaitSession(ctx, session); err != nil {
			return hello, accept, errors.New("no session at the broker")
		}
		hello = time.Now()
		if _, err = b.script.AwaitAccept(ctx, tunnel); err != nil {
			return hello, accept, errors.New("no tunnel accepted at the broker")
		}
		return hello, time.Now(), nil
	}
}

// close ends all sessions and closes the sockets.
func (b *broker) close() error {
	b.cancel()
	return errors.Join(<-b.done, <-b.done)
}
