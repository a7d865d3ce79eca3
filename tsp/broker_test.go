package tsp_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
	"sixin4/tsp/tsptest"
)

var client = netip.MustParseAddrPort("192.0.2.2:40000")

var nonceOf = regexp.MustCompile(`realm="?([^",]*)"?,nonce="?([^",]*)`)

// recorded is the broker that a connection was recorded from: what it says is built
// by the library from what was understood of the recording.
type recorded struct {
	tsptest.Config
	tunnel *tsp.Tunnel // that it offers; nil when it did not come to that
}

func brokerOf(c connection) (r recorded, err error) {
	r.Users, r.Realm = map[string]string{"alice": "secret"}, "Freenet6"
	var asked []byte
	for _, turn := range c.turns {
		if turn.client {
			asked = turn.text
			continue
		}
		m, err := tsp.ParseAnswer(turn.text)
		if err != nil {
			return r, err
		}
		if err := r.learn(stepOf(asked), m); err != nil {
			return r, err
		}
	}
	if r.tunnel != nil && len(r.tunnel.DNS) == 0 {
		r.tunnel.DNS = []netip.Addr{netip.MustParseAddr("2001:db8::53")}
	}
	r.Answer = func(*tsp.Request, netip.Addr) (*tsp.Tunnel, error) { return r.tunnel, nil }
	return r, nil
}

// stepOf is the step that answers what a client said last.
func stepOf(asked []byte) tsptest.Step {
	for _, s := range []struct {
		says string
		step tsptest.Step
	}{
		{"VERSION", tsptest.Hello}, {"AUTHENTICATE", tsptest.Authenticate},
		{`action="create"`, tsptest.Create}, {`action="accept"`, tsptest.Accept},
	} {
		if bytes.Contains(asked, []byte(s.says)) {
			return s.step
		}
	}
	return tsptest.Verdict
}

// learn takes from an answer what the broker is like. A wrong password it finds by
// itself.
func (r *recorded) learn(at tsptest.Step, m tsp.Message) (err error) {
	var status *tsp.Error
	switch errors.As(m.Err(), &status); {
	case status != nil && status.Code == tsp.BadVersion:
		r.Versions = []tsp.Version{}
	case status != nil && status.Brokers != nil:
		r.Redirect = map[tsptest.Step][]tsp.Broker{at: status.Brokers}
	case status != nil && (at != tsptest.Verdict || status.Code != tsp.AuthFailed):
		r.Refuse = map[tsptest.Step]tsp.Code{at: status.Code}
	case m.XML != nil:
		r.tunnel, err = tsp.ParseTunnel(m.XML)
	default:
		r.learnLine(m.Line)
	}
	return err
}

func (r *recorded) learnLine(line []byte) {
	if offer, err := tsp.ParseCapability(line); err == nil {
		r.Offers = offer
	}
	if challenge, err := base64.StdEncoding.DecodeString(string(line)); err == nil {
		if found := nonceOf.FindSubmatch(challenge); found != nil {
			r.Realm, r.Nonce = string(found[1]), func() string { return string(found[2]) }
		}
	}
}

// offerForAll is a broker that speaks everything.
func offerForAll() *tsptest.Broker {
	return tsptest.New(tsptest.Config{
		Users:  map[string]string{"alice": "secret"},
		Pause:  time.Nanosecond,
		Answer: func(*tsp.Request, netip.Addr) (*tsp.Tunnel, error) { return goodTunnel(), nil },
	})
}

// servePackets runs a broker on a socket until that is closed; stop does that and
// waits for the end.
func servePackets(t *testing.T, b *tsptest.Broker, conn net.Conn) (stop func()) {
	ended := make(chan error, 1)
	go func() { ended <- b.ServePackets(t.Context(), conn.(net.PacketConn)) }()
	return func() {
		conn.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

// messagesRun is how many messages a broker has run, in all its sessions.
func messagesRun(b *tsptest.Broker) (n int) {
	for _, s := range b.Sessions() {
		n += s.Messages
	}
	return n
}

func goodTunnel() *tsp.Tunnel {
	return &tsp.Tunnel{
		Type: tsp.V6UDPV4, Lifetime: 86400 * time.Second,
		Server4: netip.MustParseAddr("192.0.2.1"), Server6: netip.MustParseAddr("2001:db8:aa::1"),
		Client4: netip.MustParseAddr("192.0.2.2"), Client6: netip.MustParseAddr("2001:db8:aa::2"),
		DNS:       []netip.Addr{netip.MustParseAddr("2001:db8::53")},
		Keepalive: 30 * time.Second, KeepaliveTo: netip.MustParseAddr("2001:db8:aa::1"),
	}
}

func clientFor(method string) clientOf {
	return clientOf{
		version: tsp.V202, mechanism: method,
		credentials: sasl.Credentials{User: "alice", Password: "secret", Server: "192.0.2.1"},
		request: &tsp.Request{
			Action: tsp.ActionCreate, Type: tsp.V6UDPV4,
			Client: netip.MustParseAddr("192.0.2.2"), Keepalive: 30 * time.Second,
		},
	}
}
