package keepalive

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewChecks(t *testing.T) {
	good := Config{Interface: "six0", Source: near, To: far}
	tests := []struct {
		name string
		edit func(c *Config)
		want string // "": it is good
	}{
		{"defaults", func(*Config) {}, ""},
		{"everything set", func(c *Config) {
			c.Interval, c.Timeout, c.Losses, c.Logger = 1, time.Hour, 1000, slog.Default()
		}, ""},
		{"no interface", func(c *Config) { c.Interface = "" }, `keepalive: interface name "": want 1 to 15 bytes`},
		{"a long interface name", func(c *Config) { c.Interface = strings.Repeat("x", 16) }, `keepalive: interface name "xxxxxxxxxxxxxxxx": want 1 to 15 bytes`},
		{"no source", func(c *Config) { c.Source = netip.Addr{} }, "keepalive: source invalid IP is not an IPv6 unicast address"},
		{"an IPv4 source", func(c *Config) { c.Source = netip.MustParseAddr("192.0.2.1") }, "keepalive: source 192.0.2.1 is not an IPv6 unicast address"},
		{"a mapped source", func(c *Config) { c.Source = netip.MustParseAddr("::ffff:192.0.2.1") }, "keepalive: source ::ffff:192.0.2.1 is not an IPv6 unicast address"},
		{"no target", func(c *Config) { c.To = netip.Addr{} }, "keepalive: target invalid IP is not an IPv6 unicast address"},
		{"the unspecified target", func(c *Config) { c.To = netip.IPv6Unspecified() }, "keepalive: target :: is not an IPv6 unicast address"},
		{"a multicast target", func(c *Config) { c.To = netip.MustParseAddr("ff02::1") }, "keepalive: target ff02::1 is not an IPv6 unicast address"},
		{"a negative interval", func(c *Config) { c.Interval = -1 }, "keepalive: interval -1ns is negative"},
		{"a negative timeout", func(c *Config) { c.Timeout = -time.Second }, "keepalive: timeout -1s is negative"},
		{"negative losses", func(c *Config) { c.Losses = -1 }, "keepalive: losses -1: want 1 to 1000"},
		{"too many losses", func(c *Config) { c.Losses = 1001 }, "keepalive: losses 1001: want 1 to 1000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.edit(&cfg)
			p, err := New(cfg)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want || (p == nil) != (err != nil) {
				t.Errorf("%v, %q; want %q", p, got, tt.want)
			}
		})
	}
}

func TestNewScopesAddresses(t *testing.T) {
	p, err := New(Config{Interface: "six0", Source: netip.MustParseAddr("fe80::1"), To: netip.MustParseAddr("2001:db8::2%eth0")})
	if err != nil {
		t.Fatal(err)
	}
	if p.cfg.Source.String() != "fe80::1%six0" || p.cfg.To != far {
		t.Errorf("from %v to %v", p.cfg.Source, p.cfg.To)
	}
}

// TestTiming: when requests are sent, and when the far end counts as dead.
func TestTiming(t *testing.T) {
	const never = -1
	s := time.Second
	always := func(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }
	listed := func(ds ...time.Duration) func(int) time.Duration {
		return func(n int) time.Duration { return ds[min(n, len(ds)-1)] }
	}
	tests := []struct {
		name     string
		cfg      Config
		delay    func(n int) time.Duration // of the answer to request n
		horizon  time.Duration
		sent     []time.Duration
		answered uint64
		dead     bool
	}{
		{"answers at once", Config{}, always(0), 100 * s, []time.Duration{0, 30 * s, 60 * s, 90 * s}, 4, false},
		{"answers in time", Config{}, always(4 * s), 100 * s, []time.Duration{0, 30 * s, 60 * s, 90 * s}, 4, false},
		{"never answers", Config{}, always(never), 100 * s, []time.Duration{0, 5 * s, 10 * s}, 0, true},
		{"never answers, one loss allowed", Config{Losses: 1}, always(never), 100 * s, []time.Duration{0}, 0, true},
		{"misses the first one", Config{}, listed(never, 0), 40 * s, []time.Duration{0, 5 * s, 35 * s}, 2, false},
		{"misses two of three", Config{}, listed(never, never, 0, never, never, 0, 0), 90 * s,
			[]time.Duration{0, 5 * s, 10 * s, 40 * s, 45 * s, 50 * s, 80 * s}, 3, false},
		{"dies later", Config{}, listed(0, 0, never), 200 * s, []time.Duration{0, 30 * s, 60 * s, 65 * s, 70 * s}, 2, true},
		{"is always late by a little", Config{}, always(6 * s), 28 * s, []time.Duration{0, 5 * s, 10 * s, 15 * s, 20 * s, 25 * s}, 5, false},
		{"is late by almost too much", Config{}, always(14 * s), 28 * s, []time.Duration{0, 5 * s, 10 * s, 15 * s, 20 * s, 25 * s}, 3, false},
		{"is late by too much", Config{}, always(16 * s), 100 * s, []time.Duration{0, 5 * s, 10 * s}, 0, true},
		{"becomes slower than is remembered", Config{}, listed(14*s, 19*s, 24*s), 100 * s,
			[]time.Duration{0, 5 * s, 10 * s, 15 * s, 20 * s}, 1, true},
		{"answers late, and the later request first", Config{}, listed(10*s, 1*s, 0), 34 * s, []time.Duration{0, 5 * s}, 1, false},
		{"answers slower than the interval", Config{Interval: s}, always(2 * s), 5 * s, []time.Duration{0, 2 * s, 4 * s}, 2, false},
		{"other times", Config{Interval: 7 * s, Timeout: 2 * s, Losses: 2}, listed(0, never), 60 * s, []time.Duration{0, 7 * s, 9 * s}, 1, true},
		{"an interval of ages", Config{Interval: 1e9 * s}, always(0), 1e6 * s, []time.Duration{0}, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeConn(func(c *fakeConn, n int, message []byte) error {
					if d := tt.delay(n); d != never {
						c.later(d, replyTo(message))
					}
					return nil
				})
				o := simulate(t, tt.cfg, c, tt.horizon)
				checkTimes(t, c.sent, tt.sent)
				if o.stats.Sent != uint64(len(tt.sent)) || o.stats.Answered != tt.answered {
					t.Errorf("%+v, want %d sent, %d answered", o.stats, len(tt.sent), tt.answered)
				}
				p := newProber(t, tt.cfg, c)
				end := tt.horizon
				if tt.dead {
					end = tt.sent[len(tt.sent)-1] + p.cfg.Timeout
				}
				if errors.Is(o.err, ErrDead) != tt.dead || o.err == nil == tt.dead || o.ended != end {
					t.Errorf("ended after %v: %v; want dead %t after %v", o.ended, o.err, tt.dead, end)
				}
			})
		})
	}
}

// TestOnce: Run ends with the first answer, whichever request that is to, and with
// none as it always does.
func TestOnce(t *testing.T) {
	const never = -1
	s := time.Second
	cfg := Config{Interval: s, Timeout: s, Losses: 5, Once: true}
	tests := []struct {
		name  string
		delay []time.Duration // of the answers, the last for all that follow
		ended time.Duration
		dead  bool
	}{
		{"at once", []time.Duration{0}, 0, false},
		{"the third", []time.Duration{never, never, 0}, 2 * s, false},
		{"late to the first", []time.Duration{s + s/2, never}, 2 * s, false},
		{"never", []time.Duration{never}, 5 * s, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeConn(func(c *fakeConn, n int, message []byte) error {
					if d := tt.delay[min(n, len(tt.delay)-1)]; d != never {
						c.later(d, replyTo(message))
					}
					return nil
				})
				o := simulate(t, cfg, c, time.Hour)
				if o.ended != tt.ended || errors.Is(o.err, ErrDead) != tt.dead || (o.stats.Answered == 1) == tt.dead {
					t.Errorf("ended after %v: %v, %+v; want after %v, dead %t", o.ended, o.err, o.stats, tt.ended, tt.dead)
				}
			})
		})
	}
}

func checkTimes(t *testing.T, got, want []time.Duration) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("sent at %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("sent at %v, want %v", got, want)
		}
	}
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeConn(func(c *fakeConn, n int, message []byte) error {
			if n < 2 {
				c.later(time.Duration(n+1)*time.Second, replyTo(message))
			}
			return nil
		})
		o := simulate(t, Config{}, c, time.Hour)
		want := Stats{Sent: 5, Answered: 2, RTT: 2 * time.Second, LastAnswer: c.start.Add(32 * time.Second)}
		if got := o.stats; got.Sent != want.Sent || got.Answered != want.Answered || got.RTT != want.RTT || !got.LastAnswer.Equal(want.LastAnswer) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if want := "keepalive: the far end does not answer: 3 echo requests to 2001:db8::2 in a row were lost"; o.err.Error() != want {
			t.Errorf("got  %v\nwant %s", o.err, want)
		}
	})
}

// TestSocketErrors: what the socket says about one message is not the end.
func TestSocketErrors(t *testing.T) {
	answer := func(c *fakeConn, _ int, message []byte) error {
		c.in <- replyTo(message)
		return nil
	}
	tests := []struct {
		name   string
		far    func(c *fakeConn, n int, message []byte) error
		broken error
		dead   bool
	}{
		{"sending never works", func(*fakeConn, int, []byte) error { return syscall.ENETUNREACH }, nil, true},
		{"sending fails twice", func(c *fakeConn, n int, message []byte) error {
			if n < 2 {
				return syscall.ENODEV
			}
			return answer(c, n, message)
		}, nil, false},
		{"receiving fails once", func(c *fakeConn, n int, message []byte) error {
			c.in <- received{err: syscall.ENETDOWN}
			return answer(c, n, message)
		}, nil, false},
		{"receiving never works", answer, syscall.ENETDOWN, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeConn(tt.far)
				c.broken = tt.broken
				o := simulate(t, Config{}, c, 20*time.Second)
				if dead := errors.Is(o.err, ErrDead); dead != tt.dead || dead && o.ended != 15*time.Second {
					t.Errorf("ended after %v: %v", o.ended, o.err)
				}
				if c.receives > 200 {
					t.Errorf("the socket was asked %d times", c.receives)
				}
			})
		})
	}
}

func TestCancel(t *testing.T) {
	tests := []struct {
		name   string
		answer bool
		broken error
	}{
		{"while an answer is awaited", false, nil},
		{"between requests", true, nil},
		{"while receiving fails", false, syscall.ENETDOWN},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeConn(func(c *fakeConn, n int, message []byte) error {
					if tt.answer {
						c.in <- replyTo(message)
					}
					return nil
				})
				c.broken = tt.broken
				o := simulate(t, Config{}, c, 1050*time.Millisecond)
				if o.err != nil || o.ended != 1050*time.Millisecond {
					t.Errorf("ended after %v: %v", o.ended, o.err)
				}
			})
		})
	}
	t.Run("before the start", func(t *testing.T) {
		p := newProber(t, Config{}, nil)
		p.open = func(int) (conn, error) { return nil, errors.New("opened all the same") }
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestOpenError(t *testing.T) {
	p := newProber(t, Config{}, nil)
	p.open = func(int) (conn, error) { return nil, syscall.ENODEV }
	if err := p.Run(t.Context()); !errors.Is(err, syscall.ENODEV) || err.Error() != "keepalive: no such device" {
		t.Error(err)
	}
}

// TestLog: one line when an answer is missing, one when they are back.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		c := newFakeConn(func(c *fakeConn, n int, message []byte) error {
			if n != 1 && n != 2 {
				c.in <- replyTo(message)
			}
			return nil
		})
		simulate(t, Config{Logger: slog.New(slog.NewTextHandler(&out, nil))}, c, 5*time.Minute)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "did not answer in time") || !strings.Contains(lines[1], "answers again") || !strings.Contains(lines[1], "lost=2") {
			t.Errorf("log:\n%s", out.String())
		}
	})
}
