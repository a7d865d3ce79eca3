package broker_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/sasl"
)

// frame puts a Content-length in front.
func frame(xml string) string { return fmt.Sprintf("Content-length: %d\r\n%s", len(xml), xml) }

// create is a request with something changed.
func create(old, now string) string {
	r := request(tsp.V6V4, alice4)
	r.Router = &tsp.Router{PrefixLen: 60, DNS: []string{"ns1.example.net"}}
	m, err := r.Message()
	if err != nil {
		panic(err)
	}
	changed := strings.Replace(string(m.XML), old, now, 1)
	if changed == string(m.XML) && old != now {
		panic("nothing was changed")
	}
	return frame(changed)
}

const (
	version  = "VERSION=2.0.2\r\n"
	nobody   = "AUTHENTICATE ANONYMOUS\r\n"
	scramOn  = "AUTHENTICATE SCRAM-SHA-256 "
	digestOn = "AUTHENTICATE DIGEST-MD5\r\n"
	plainOn  = "AUTHENTICATE PLAIN\r\n"
	accept   = `<tunnel action="accept"></tunnel>`
	info     = `<tunnel action="info" type="v6v4"></tunnel>`
	destroy  = `<tunnel action="delete"></tunnel>`
	reject   = `<tunnel action="reject"></tunnel>`
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestStatus(t *testing.T) {
	// The first says how the session gets there, the last is what is answered with a status.
	host := create("\r\n  <router>\r\n   <prefix length=\"60\"/>\r\n   <dns_server>\r\n"+
		"     <address type=\"dn\">ns1.example.net</address>\r\n   </dns_server>\r\n  </router>", "")
	tests := []struct {
		name   string
		says   []string
		want   tsp.Code
		framed bool
		only   string // on one transport; empty: both
	}{
		{"no version", []string{"HELO\r\n"}, tsp.BadRequest, false, ""},
		{"command first", []string{frame(accept)}, tsp.BadRequest, false, "tcp"},
		{"old version", []string{"VERSION=0.9\r\n"}, tsp.BadVersion, false, ""},
		{"version twice", []string{version, version}, tsp.BadRequest, false, "tcp"},
		{"no mechanism", []string{version, "AUTHENTICATE\r\n"}, tsp.AuthFailed, false, ""},
		{"unknown mechanism", []string{version, "AUTHENTICATE PASSDSS-3DES-1\r\n"}, tsp.AuthFailed, false, ""},
		{"anonymous with a message", []string{version, "AUTHENTICATE ANONYMOUS eA==\r\n"}, tsp.AuthFailed, false, ""},
		{"not base64", []string{version, digestOn, "!\r\n"}, tsp.AuthFailed, false, ""},
		{"not a response", []string{version, digestOn, b64("x=y") + "\r\n"}, tsp.AuthFailed, false, ""},
		{"not SCRAM", []string{version, scramOn + b64("x") + "\r\n"}, tsp.AuthFailed, false, ""},
		{"command in place of a message", []string{version, digestOn, frame(accept)}, tsp.BadRequest, false, ""},
		{"create before login", []string{version, host}, tsp.BadRequest, false, ""},
		{"line in place of a command", []string{version, nobody, nobody}, tsp.BadRequest, true, ""},
		{"not XML", []string{version, nobody, frame("<tunnel")}, tsp.BadRequest, true, ""},
		{"entities", []string{version, nobody, frame(`<!DOCTYPE x [<!ENTITY a "b">]><tunnel action="create">&a;</tunnel>`)}, tsp.BadRequest, true, ""},
		{"unknown action", []string{version, nobody, frame(`<tunnel action="list"></tunnel>`)}, tsp.BadRequest, true, ""},
		{"accept without offer", []string{version, nobody, frame(accept)}, tsp.ServerError, true, ""},
		{"info without offer", []string{version, nobody, frame(info)}, tsp.ServerError, true, ""},
		{"delete without offer", []string{version, nobody, frame(destroy)}, tsp.ServerError, true, ""},
		{"unknown type", []string{version, nobody, create(`type="v6v4"`, `type="x"`)}, tsp.BadType, true, ""},
		{"v4v6", []string{version, nobody, frame(`<tunnel action="create" type="v4v6"><client><address type="ipv6">2001:db8::7</address></client></tunnel>`)}, tsp.BadType, true, ""},
		{"no IPv4 address", []string{version, nobody, create("198.51.100.7", "198.51.100.700")}, tsp.BadIPv4, true, ""},
		{"no IPv6 address", []string{version, nobody, frame(`<tunnel action="create" type="v4v6"><client><address type="ipv6">x</address></client></tunnel>`)}, tsp.BadIPv6, true, ""},
		{"bad name server", []string{version, nobody, create("ns1.example.net", "-")}, tsp.BadDelegation, true, ""},
		{"prefix length out of range", []string{version, nobody, create(`"60"`, `"129"`)}, tsp.BadPrefixLength, true, ""},
		{"prefix for nobody", []string{version, nobody, create("", "")}, tsp.PrefixAnonymous, true, ""},
		{"create twice", []string{version, nobody, host, host}, tsp.ServerError, true, ""},
		{"create behind accept", []string{version, nobody, host, frame(accept), host}, tsp.ServerError, true, ""},
		{"info behind create", []string{version, nobody, host, frame(info)}, tsp.Success, true, "tcp"},
		{"info behind accept", []string{version, nobody, host, frame(accept), frame(info)}, tsp.Success, true, "tcp"},
		{"command without session", []string{frame(accept)}, tsp.ServerError, true, "udp"},
		{"info that is too long for a stranger", []string{version, nobody, host, frame(info)}, tsp.Busy, true, "udp"},
		{"reject", []string{version, nobody, host, frame(reject)}, tsp.Success, true, ""},
		{"create behind reject", []string{version, nobody, host, frame(reject), host}, tsp.Success, true, ""},
		{"delete", []string{version, nobody, host, frame(accept), frame(destroy)}, tsp.Success, true, ""},
		{"delete twice", []string{version, nobody, host, frame(accept), frame(destroy), frame(destroy)}, tsp.ServerError, true, ""},
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, tt := range tests {
			if tt.only != "" && tt.only != network {
				continue
			}
			t.Run(network+"/"+tt.name, func(t *testing.T) {
				inWorld(t, nil, func(t *testing.T, w *world) {
					m := w.talk(network, alice4).says(t, tt.says)
					if m.Code() != tt.want || m.Framed != tt.framed {
						t.Errorf("%q, framed: %v", m.Bytes(), m.Framed)
					}
					if w.Stats().Codes[tt.want] == 0 && tt.want != tsp.Success {
						t.Errorf("not counted: %v", w.Stats().Codes)
					}
				})
			})
		}
	}
}

// says says all of it and returns the last answer.
func (k talk) says(t *testing.T, all []string) (m tsp.Message) {
	t.Helper()
	for _, text := range all {
		var err error
		if text == frame(accept) && m.XML != nil || text == plainOn {
			err = k.transport.Tell(t.Context(), []byte(text))
		} else {
			m, err = k.transport.Call(t.Context(), []byte(text))
		}
		if err != nil {
			t.Fatalf("behind %q: %v", text, err)
		}
	}
	return m
}

// TestRefusal: what the Provisioner refuses with is what the client hears, and any
// other error is only a number.
func TestRefusal(t *testing.T) {
	secret := errors.New("the disk of db1.example.net is full")
	tests := []struct {
		name string
		err  error
		want tsp.Code
	}{
		{"no tunnels", &tsp.Error{Code: tsp.NoTunnels}, tsp.NoTunnels},
		{"in use", &tsp.Error{Code: tsp.IPv4InUse}, tsp.IPv4InUse},
		{"no such prefix", fmt.Errorf("pool: %w", &tsp.Error{Code: tsp.PrefixUnavailable}), tsp.PrefixUnavailable},
		{"no length", &tsp.Error{Code: tsp.NoPrefixLength}, tsp.NoPrefixLength},
		{"in progress", &tsp.Error{Code: tsp.InProgress}, tsp.InProgress},
		{"busy", &tsp.Error{Code: tsp.Busy}, tsp.Busy},
		{"other brokers", &tsp.Error{Code: tsp.Redirection, Brokers: []tsp.Broker{{Addr: mob4}}}, tsp.Redirection},
		{"redirection to nowhere", &tsp.Error{Code: tsp.Redirection}, tsp.ServerError},
		{"success", &tsp.Error{Code: tsp.Success}, tsp.ServerError},
		{"not for clients", secret, tsp.ServerError},
		{"slow", context.DeadlineExceeded, tsp.Busy},
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, tt := range tests {
			t.Run(network+"/"+tt.name, func(t *testing.T) {
				inWorld(t, nil, func(t *testing.T, w *world) {
					w.pool.offer = func(context.Context, broker.Ask) (*broker.Grant, error) { return nil, tt.err }
					_, err := w.talk(network, alice4).run(t.Context(), byScram, request(tsp.V6V4, alice4))
					if code(err) != tt.want || strings.Contains(err.Error(), "db1") {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestAcceptFails: over UDP the client hears of it; over TCP nothing may be said, so the
// connection ends.
func TestAcceptFails(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			inWorld(t, nil, func(t *testing.T, w *world) {
				w.pool.acceptErr = errors.New("no device")
				k := w.talk(network, alice4)
				_, err := k.run(t.Context(), byScram, request(tsp.V6V4, alice4))
				if network == "udp" {
					if code(err) != tsp.ServerError {
						t.Error(err)
					}
				} else if n, rerr := k.Read(make([]byte, 1)); err != nil || n != 0 || rerr == nil {
					t.Errorf("%v; then %d bytes, %v", err, n, rerr)
				}
				synctest.Wait()
				if got := w.pool.counts(); got != [4]int{1, 0, 1, 0} {
					t.Errorf("asked, accepted, freed, kept: %v", got)
				}
			})
		})
	}
}

// TestBadGrant: what a Provisioner must not offer does not get out.
func TestBadGrant(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*broker.Grant) *broker.Grant
		freed int
	}{
		{"none", func(*broker.Grant) *broker.Grant { return nil }, 0},
		{"no tunnel", func(g *broker.Grant) *broker.Grant { return &broker.Grant{ID: g.ID} }, 1},
		{"no resolver", func(g *broker.Grant) *broker.Grant { g.Tunnel.DNS = nil; return g }, 1},
		{"another type", func(g *broker.Grant) *broker.Grant { g.Tunnel.Type = tsp.V6UDPV4; return g }, 1},
		{"to somebody else", func(g *broker.Grant) *broker.Grant { g.Tunnel.Client4 = mob4; return g }, 1},
		{"no address", func(g *broker.Grant) *broker.Grant { g.Tunnel.Client6 = netip.Addr{}; return g }, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, nil, func(t *testing.T, w *world) {
				w.pool.offer = func(ctx context.Context, a broker.Ask) (*broker.Grant, error) {
					g, err := goodGrant(ctx, a)
					return tt.spoil(g), err
				}
				_, err := w.talk("tcp", alice4).run(t.Context(), byScram, request(tsp.V6V4, alice4))
				if code(err) != tsp.ServerError || w.pool.counts()[2] != tt.freed {
					t.Errorf("%v, %v", err, w.pool.counts())
				}
			})
		})
	}
}

// TestErrorBudget: a client may be wrong a few times.
func TestErrorBudget(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			inWorld(t, func(c *broker.Config) { c.Limits.Errors = 3 }, func(t *testing.T, w *world) {
				k := w.talk(network, alice4)
				k.says(t, []string{version, "AUTHENTICATE X\r\n", "AUTHENTICATE X\r\n"})
				if m := k.says(t, []string{nobody}); m.Code() != tsp.Success {
					t.Fatalf("%q", m.Bytes())
				}
				k.says(t, []string{frame("<x/>")})
				m, err := k.transport.Call(t.Context(), []byte(create("", "")))
				if network == "tcp" && err == nil || network == "udp" && m.Code() < 300 {
					t.Errorf("%q, %v", m.Bytes(), err)
				}
				if len(w.pool.asks) > 0 {
					t.Error("a tunnel was asked for")
				}
			})
		})
	}
}

// TestSlow: a message and a session that take too long end, and the client hears why.
func TestSlow(t *testing.T) {
	tests := []struct {
		name  string
		every time.Duration
		text  string
		want  time.Duration
	}{
		{"nothing", 0, "", 15 * time.Second},
		{"a byte every other second", 2 * time.Second, version, 15 * time.Second},
		{"the first line only", time.Millisecond, version, 15*time.Second + 16*time.Millisecond},
		{"refusals for ever", 10 * time.Second, strings.Repeat("\x00", 99), 15 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, nil, func(t *testing.T, w *world) {
				conn, begin := w.dial("tcp", alice4), time.Now()
				ended := make(chan string)
				go func() {
					buf, all := make([]byte, 256), ""
					for {
						n, err := conn.Read(buf)
						all += string(buf[:n])
						if err != nil {
							ended <- all
							return
						}
					}
				}()
				go func() {
					for _, c := range []byte(tt.text) {
						if _, err := conn.Write([]byte{c}); err != nil {
							return
						}
						<-time.After(tt.every)
					}
				}()
				said := <-ended
				if took := time.Since(begin); took > tt.want+2*time.Second || took < tt.want-2*time.Second {
					t.Errorf("took %v", took)
				}
				if (tt.text != "") != strings.Contains(said, "599 ") {
					t.Errorf("%q", said)
				}
				<-time.After(time.Hour)
				if s := w.Stats(); s.Drops[broker.DropSlow] != 1 || s.Conns != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestWrongPassword: every mechanism refuses it with the same status.
func TestWrongPassword(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		for _, l := range logins()[1:] {
			for _, wrong := range []login{{l.method, "alice", "Secret"}, {l.method, "bob", "secret"}} {
				t.Run(network+"/"+l.method+"/"+wrong.user, func(t *testing.T) {
					inWorld(t, nil, func(t *testing.T, w *world) {
						err := w.talk(network, alice4).in(t.Context(), tsp.V202, wrong)
						if code(err) != tsp.AuthFailed || w.Stats().AuthFailures[l.method] != 1 {
							t.Errorf("%v, %v", err, w.Stats().AuthFailures)
						}
					})
				})
			}
		}
	}
}

// TestLater: a connection that is kept for a day may still be used.
func TestLater(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		k := w.talk("tcp", alice4)
		if _, err := k.run(t.Context(), byScram, request(tsp.V6V4, alice4)); err != nil {
			t.Fatal(err)
		}
		pass(24 * time.Hour)
		for _, text := range []string{info, destroy} {
			if m := k.says(t, []string{frame(text)}); m.Code() != tsp.Success {
				t.Errorf("%q", m.Bytes())
			}
		}
		pass(time.Second)
		if _, err := k.Create(t.Context(), request(tsp.V6V4, alice4)); err != nil {
			t.Error(err)
		}
		k.Close()
		synctest.Wait()
		if got := w.pool.counts(); got != [4]int{2, 1, 2, 0} {
			t.Errorf("asked, accepted, freed, kept: %v", got)
		}
	})
}

// TestShortHello: a VERSION line without an end is too short for all that we offer.
func TestShortHello(t *testing.T) {
	for _, tt := range []struct {
		network, version string
		want             string
		merged           bool
	}{
		{"udp", "VERSION=2.0.2\r\n", sasl.ScramSHA256, true},
		{"udp", "VERSION=2.0.2\n", sasl.ScramSHA256, false},
		{"udp", "VERSION=2.0.2", sasl.DigestMD5, false},
		{"tcp", "VERSION=2.0.2\n", sasl.ScramSHA256, true},
	} {
		t.Run(fmt.Sprintf("%s/%q", tt.network, tt.version), func(t *testing.T) {
			inWorld(t, func(c *broker.Config) { c.Merged = true }, func(t *testing.T, w *world) {
				offer, err := tsp.ParseCapability(w.talk(tt.network, alice4).says(t, []string{tt.version}).Line)
				if err != nil || offer.Auths[len(offer.Auths)-1] != tt.want || len(offer.Tunnels) != 2 || offer.Merged != tt.merged {
					t.Errorf("%v, %v", offer, err)
				}
			})
		})
	}
}

// TestMechanisms: what is not offered cannot be used.
func TestMechanisms(t *testing.T) {
	inWorld(t, func(c *broker.Config) {
		c.Anonymous, c.Mechanisms = false, []string{sasl.ScramSHA256}
	}, func(t *testing.T, w *world) {
		for _, l := range logins() {
			err := w.talk("tcp", alice4).in(t.Context(), tsp.V202, l)
			if l.method == sasl.ScramSHA256 && err != nil || l.method != sasl.ScramSHA256 && err == nil {
				t.Errorf("%s: %v", l.method, err)
			}
		}
	})
}
