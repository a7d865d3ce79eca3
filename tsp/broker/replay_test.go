package broker_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/sasl"
)

// turn is one message of a recorded session; package tsp's tests say how they are
// written.
type turn struct {
	client bool
	header tsp.Header
	text   []byte
}

// recording is one connection.
type recording struct {
	name, want   string
	udp, foreign bool
	turns        []turn
}

var unescaper = regexp.MustCompile(`\\(r|n|t|0|\\|x[0-9a-f]{2})`)

func unescape(s string) []byte {
	return unescaper.ReplaceAllFunc([]byte(s), func(e []byte) []byte {
		if e[1] == 'x' {
			b, _ := hex.DecodeString(string(e[2:]))
			return b
		}
		return []byte{map[byte]byte{'r': '\r', 'n': '\n', 't': '\t', '0': 0, '\\': '\\'}[e[1]]}
	})
}

// recordings are the connections of all files that a broker can play.
func recordings(t *testing.T) (all []recording) {
	t.Helper()
	files, err := filepath.Glob("../../testdata/tsp/*.txt")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if strings.Contains(string(text), "\nplays: client\n") {
			continue
		}
		for i, part := range strings.Split(string(text), "\n---\n") {
			r := recording{
				name: fmt.Sprintf("%s/%d", name, i), udp: strings.Contains(string(text), "\ntransport: udp\n"),
				foreign: strings.Contains(string(text), "\nspoken-by: "),
			}
			r.parse(part)
			all = append(all, r)
			if strings.Contains(string(text), "\ntransport: both\n") {
				all = append(all, r.datagrams())
			}
		}
	}
	return all
}

func (r *recording) parse(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if more, ok := strings.CutPrefix(line, " | "); ok {
			last := &r.turns[len(r.turns)-1]
			last.text = append(last.text, unescape(more)...)
			continue
		}
		key, rest, _ := strings.Cut(line, ": ")
		switch key {
		case "want":
			r.want = rest
		case "C", "S":
			t := turn{client: key == "C"}
			if r.udp {
				_, _ = fmt.Sscanf(rest, "[%x %x", &t.header.Word, &t.header.Timestamp)
				_, rest, _ = strings.Cut(rest, "]")
				rest = strings.TrimPrefix(rest, " ")
			}
			t.text = unescape(rest)
			r.turns = append(r.turns, t)
		}
	}
}

// datagrams is a recording for a stream as one for datagrams: every message of the
// client is answered, and every answer asked for.
func (r recording) datagrams() recording {
	r.name, r.udp = r.name+"/udp", true
	h := tsp.Header{Word: 0xf00000ef, Timestamp: 0x1ca}
	var turns []turn
	for i, t := range r.turns {
		last := i+1 == len(r.turns)
		if t.client {
			h.Word++
		} else if i > 0 && !r.turns[i-1].client {
			h.Word++
			turns = append(turns, turn{client: true, header: h})
		}
		turns = append(turns, turn{t.client, h, t.text})
		if t.client && (last || r.turns[i+1].client) {
			turns = append(turns, turn{header: h})
		}
	}
	r.turns = turns
	return r
}

var challengeOf = regexp.MustCompile(`^realm="?([^",]*)"?,nonce="?([^",]*)`)

// errUnlike is why the broker of a recording cannot be played: it is unlike ours.
var errUnlike = errors.New("another kind of broker")

// learn makes our broker like the one that was recorded. Only what its operator can
// choose is learnt.
func (r recording) learn(c *broker.Config, p *pool) (from netip.Addr, err error) {
	from = netip.MustParseAddr("192.0.2.2")
	var asked []byte
	for _, t := range r.turns {
		if t.client {
			asked = t.text
			if bytes.Contains(asked, []byte(`proxy="yes"`)) {
				c.Proxy = func(*broker.User, netip.AddrPort, netip.Addr) bool { return true }
			}
			continue
		}
		m, err := tsp.ParseAnswer(t.text)
		if err != nil {
			return from, err
		}
		var status *tsp.Error
		line := string(m.Line)
		challenge, _ := base64.StdEncoding.DecodeString(line)
		found := challengeOf.FindSubmatch(challenge)
		switch errors.As(m.Err(), &status); {
		case strings.HasPrefix(line, "CAPABILITY"):
			err = learnOffer(c, m.Line)
		case found != nil:
			c.Realm, c.Nonce = string(found[1]), func() string { return string(found[2]) }
		case status != nil:
			err = r.learnStatus(c, p, asked, status)
		case m.XML != nil:
			from, err = r.learnTunnel(p, m.XML)
		}
		if err != nil {
			return from, err
		}
	}
	return from, nil
}

func learnOffer(c *broker.Config, line []byte) error {
	offer, err := tsp.ParseCapability(line)
	if err != nil {
		return err
	}
	c.Anonymous, c.Carries, c.Mechanisms = false, offer.Tunnels, []string{}
	for _, a := range offer.Auths {
		switch a {
		case sasl.Anonymous:
			c.Anonymous = true
		case sasl.Plain, sasl.DigestMD5, sasl.ScramSHA256:
			c.Mechanisms = append(c.Mechanisms, a)
		default:
			return errUnlike
		}
	}
	if slices.Contains(c.Carries, tsp.V4V6) {
		return errUnlike
	}
	return nil
}

// learnStatus has the same status come from where ours has it from.
func (r recording) learnStatus(c *broker.Config, p *pool, asked []byte, status *tsp.Error) error {
	refusal := &tsp.Error{Code: status.Code, Brokers: status.Brokers}
	switch {
	case r.udp && len(status.Brokers) > 20: // too long an answer
		return errUnlike
	case bytes.Contains(asked, []byte(`action="create"`)):
		p.offer = func(context.Context, broker.Ask) (*broker.Grant, error) { return nil, refusal }
	case bytes.Contains(asked, []byte(`action="accept"`)):
		p.acceptErr = refusal
	case status.Code == tsp.BadVersion:
		c.Versions = []tsp.Version{}
	case status.Code == tsp.Redirection && bytes.Contains(asked, []byte("VERSION")) && !r.udp: // too long an answer
		c.Redirect.Brokers = status.Brokers
	case status.Code != tsp.AuthFailed, bytes.Contains(asked, []byte("ANONYMOUS")):
		return errUnlike
	}
	return nil
}

func (r recording) learnTunnel(p *pool, doc []byte) (netip.Addr, error) {
	t, err := tsp.ParseTunnel(doc)
	if err != nil {
		return netip.Addr{}, err
	}
	if t.Type == tsp.V6UDPV4 && !r.udp {
		return netip.Addr{}, errUnlike
	}
	if len(t.DNS) == 0 {
		t.DNS = []netip.Addr{netip.MustParseAddr("2001:db8::53")}
	}
	p.offer = func(context.Context, broker.Ask) (*broker.Grant, error) { return &broker.Grant{Tunnel: t}, nil }
	return t.Client4, nil
}

// TestReplay plays the client of every recording that fits, and wants what was
// recorded to the byte; of a broker in other words, as many answers. Clients of old go on
// as ever where the broker says that it takes merged TCP.
func TestReplay(t *testing.T) {
	newUser()
	for _, merged := range []bool{false, true} {
		t.Run(fmt.Sprintf("merged %v", merged), func(t *testing.T) { replayAll(t, merged) })
	}
}

func replayAll(t *testing.T, merged bool) {
	played, exact, tunnels, announced := 0, 0, 0, 0
	for _, r := range recordings(t) {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{t: t, pool: new(pool)}
				c := w.config()
				from, err := r.learn(&c, w.pool)
				if errors.Is(err, errUnlike) {
					return // those that are played are counted
				}
				if err != nil {
					t.Fatal(err)
				}
				c.Accounts = r.accounts(c.Realm)
				if c.Merged = merged; merged {
					announced += r.announce()
				}
				w.serve(c)
				if r.udp {
					r.playDatagrams(t, w.dial("udp", from))
				} else {
					r.playStream(t, w.dial("tcp", from))
				}
				synctest.Wait()
				played++
				if !r.foreign {
					exact++
				}
				if up := w.pool.counts()[1] == 1; up == strings.HasPrefix(r.want, "status") {
					t.Errorf("tunnel up: %v, want %s", up, r.want)
				} else if up {
					tunnels++
				}
				w.stop()
			})
		})
	}
	if played < 160 || exact < 130 || tunnels < 80 || announced > 0 != merged || merged && announced < tunnels {
		t.Errorf("%d played, %d of them to the byte, %d tunnels, merged TCP announced %d times", played, exact, tunnels, announced)
	}
}

// accounts are those of all recordings, for a realm.
func (r recording) accounts(realm string) users {
	all := everybody()
	digest := sasl.NewDigest("alice", realm, "secret")
	all["alice"].Digest = &digest
	return all
}

func (r recording) playStream(t *testing.T, conn net.Conn) {
	answers := tsp.NewStream(conn)
	said := make(chan []byte, len(r.turns))
	written := make(chan struct{})
	go func() { // by itself, for a zero byte behind a line may wait until the answer was read
		defer close(written)
		for text := range said {
			_, _ = conn.Write(text)
		}
	}()
	defer func() { <-written }()
	defer close(said)
	for _, turn := range r.turns {
		if turn.client {
			said <- turn.text
			continue
		}
		if r.foreign {
			if _, err := answers.Call(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got := make([]byte, len(turn.text))
		if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, turn.text) {
			t.Fatalf("broker said\n%q, %v, want\n%q", got[:n], err, turn.text)
		}
	}
}

func (r recording) playDatagrams(t *testing.T, conn net.Conn) {
	buf := make([]byte, 1<<16)
	for i, turn := range r.turns {
		if !turn.client || i+1 < len(r.turns) && r.turns[i+1].client {
			continue // an answer, or a datagram that was lost
		}
		_, _ = conn.Write(turn.header.Datagram(turn.text))
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		want := r.turns[i+1].header.Datagram(r.turns[i+1].text)
		if got := buf[:n]; !bytes.HasPrefix(got, want[:tsp.HeaderLen]) || !r.foreign && !bytes.Equal(got, want) {
			t.Errorf("broker said\n%q, want\n%q", got, want)
		}
	}
}

// TestReplayedDatagrams: a whole session again, from its own address and from another,
// in any order, makes no tunnel.
func TestReplayedDatagrams(t *testing.T) {
	for _, l := range logins() {
		t.Run(l.method, func(t *testing.T) {
			inWorld(t, nil, func(t *testing.T, w *world) {
				other := netip.MustParseAddrPort("192.0.2.1:3654")
				p := w.tapped(other)
				conn, err := w.net.Dial(t.Context(), "udp", alice4, other)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				d := tsp.NewDatagrams(conn.(tsp.DatagramConn), tsp.DatagramConfig{})
				k := talk{tsp.NewSession(d), d, conn}
				if _, err := k.run(t.Context(), l, request(tsp.V6V4, alice4)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				session := p.in
				forger, err := w.net.Dial(t.Context(), "udp", mob4, other)
				if err != nil {
					t.Fatal(err)
				}
				defer forger.Close()
				for range 3 {
					for _, b := range session {
						_, _ = conn.Write(b)
						if l.method == sasl.DigestMD5 || l.method == sasl.ScramSHA256 {
							_, _ = forger.Write(b)
						}
						synctest.Wait()
					}
				}
				if got := w.pool.counts(); got != [4]int{1, 1, 0, 0} {
					t.Errorf("asked, accepted, freed, kept: %v", got)
				}
			})
		})
	}
}
