package tsp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/tsptest"
)

func TestClassify(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
		want tsp.Kind
	}{
		{"nothing", nil, tsp.Junk},
		{"first message", []byte("\xf0\x00\x00\xf0\x00\x00\x01\xe4VERSION=2.0.2\r\n"), tsp.Control},
		{"from zero", []byte("\xf0\x00\x00\x00\x00\x00\x01\xe4"), tsp.Control},
		{"little endian", []byte("\x00\x00\x00\xf0\x00\x00\x01\xe4"), tsp.Control},
		{"little endian, second", []byte("\x01\x00\x00\xf0\x00\x00\x01\xe4"), tsp.Control},
		{"header cut", []byte("\xf0\x00\x00\xf0\x00\x00\x01"), tsp.Junk},
		{"neither byte", []byte("\x10\x00\x00\x00\x00\x00\x01\xe4"), tsp.Junk},
		{"forgotten", []byte("\xff\xff\xff\xff\x00\x00\x00\x00310"), tsp.Control},
		{"IPv6", append([]byte("\x60\x00\x00\x00"), make([]byte, 36)...), tsp.Data},
		{"IPv6 with 0xF in the flow label", append([]byte("\x60\x00\x00\xf0"), make([]byte, 36)...), tsp.Data},
		{"IPv6 cut", append([]byte("\x60\x00\x00\xf0"), make([]byte, 35)...), tsp.Junk},
		{"IPv4", append([]byte("\x45\x00\x00\xf0"), make([]byte, 36)...), tsp.Junk},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tsp.Classify(tt.b); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
			if _, _, err := tsp.ParseHeader(tt.b); (err == nil) != (tt.want == tsp.Control) {
				t.Error(err)
			}
		})
	}
}

func TestSequence(t *testing.T) {
	for word, want := range map[uint32]uint32{
		0xf00000f0: 0xf0, 0xf00000f1: 0xf1, 0xf0000000: 0, 0x000000f0: 0, 0x010000f0: 1, 0xff0100f0: 0x0f0100f0,
	} {
		if got := (tsp.Header{Word: word}).Sequence(); got != want {
			t.Errorf("%#x: %#x, want %#x", word, got, want)
		}
	}
}

func TestForgotten(t *testing.T) {
	for s, want := range map[string]bool{
		"\xff\xff\xff\xff\x10\x32\x54\x76310 TSP status error\r\n": true,
		"\xff\xff\xff\xff\x10\x32\x54\x76310":                      true,
		"\xff\xff\xff\xff\x10\x32\x54\x76200 Success\r\n":          false,
		"\xf0\x00\x00\xf0\x10\x32\x54\x76310 TSP status error\r\n": false,
		"\xff\xff\xff\xff": false,
	} {
		if got := tsp.Forgotten([]byte(s)); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// sends records when a client sent what, and answers as a test says.
type sends struct {
	net.Conn
	start time.Time
	at    []time.Duration
	heads []tsp.Header
	reply func(n int, h tsp.Header, text []byte)
}

func newSends(t *testing.T, reply func(far net.Conn, n int, h tsp.Header, text []byte)) *sends {
	near, far := tsptest.DatagramPipe(nil)
	return &sends{Conn: near, start: time.Now(), reply: func(n int, h tsp.Header, text []byte) { reply(far, n, h, text) }}
}

func (s *sends) Write(b []byte) (int, error) {
	h, text, err := tsp.ParseHeader(b)
	if err != nil {
		return 0, err
	}
	s.at = append(s.at, time.Since(s.start))
	s.heads = append(s.heads, h)
	s.reply(len(s.at), h, text)
	return len(b), nil
}

func seconds(n ...int) (d []time.Duration) {
	for _, s := range n {
		d = append(d, time.Duration(s)*time.Second)
	}
	return d
}

// TestRetransmission: the timers of a broker that never answers, and of one that
// stops answering.
func TestRetransmission(t *testing.T) {
	tests := []struct {
		name    string
		answers int
		sent    []time.Duration
		end     time.Duration
	}{
		{"never", 0, seconds(0, 2, 4), 6 * time.Second},
		{"after the first", 1, seconds(0, 0, 2, 4, 6, 8, 12, 20, 36), 66 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(458 * time.Millisecond)
				s := newSends(t, func(far net.Conn, n int, h tsp.Header, text []byte) {
					if n <= tt.answers {
						far.Write(h.Datagram(text))
					}
				})
				d := tsp.NewDatagrams(s, tsp.DatagramConfig{})
				var err error
				for err == nil {
					_, err = d.Call(t.Context(), tsp.V202.Line())
				}
				if !errors.Is(err, tsp.ErrNoAnswer) || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
				if !slices.Equal(s.at, tt.sent) || time.Since(s.start) != tt.end {
					t.Errorf("sent at %v, gave up at %v", s.at, time.Since(s.start))
				}
				for i, h := range s.heads {
					if want := uint32(0xf00000f0 + min(i, tt.answers)); h.Word != want {
						t.Errorf("send %d: word %#x, want %#x", i, h.Word, want)
					}
					if want := uint32(458 + s.at[i].Milliseconds()); h.Timestamp != want {
						t.Errorf("send %d: timestamp %d, want %d", i, h.Timestamp, want)
					}
				}
			})
		})
	}
}

// TestSlowPath: where answers take five seconds, the client learns to wait for them.
func TestSlowPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSends(t, func(far net.Conn, n int, h tsp.Header, text []byte) {
			time.AfterFunc(5*time.Second, func() { far.Write(h.Datagram(text)) })
		})
		d := tsp.NewDatagrams(s, tsp.DatagramConfig{})
		var before int
		for i := range 12 {
			before = len(s.at)
			if _, err := d.Call(t.Context(), tsp.V202.Line()); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if n := len(s.at) - before; n != 1 || d.RTT() != 5*time.Second {
			t.Errorf("%d sends of the last message, round trip %v", n, d.RTT())
		}
	})
}

// TestForeignDatagrams: what is no answer to the question is ignored, and data goes
// where data goes.
func TestForeignDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		packet := append([]byte("\x60\x00\x00\xf0"), make([]byte, 40)...)
		s := newSends(t, func(far net.Conn, n int, h tsp.Header, text []byte) {
			for _, other := range []tsp.Header{{Word: h.Word + 1}, {Word: h.Word - 1}, {Word: 0xffffffff}, {Word: 0xf00000f0 &^ 0xf0}} {
				other.Timestamp = h.Timestamp
				far.Write(other.Datagram([]byte("310 Server side error\r\n")))
			}
			far.Write(packet)
			far.Write([]byte("junk"))
			far.Write(nil)
			far.Write(tsp.Header{Word: h.Word, Timestamp: h.Timestamp + 1e6}.Datagram([]byte("200 Success"))) // a time of nobody
		})
		var data [][]byte
		d := tsp.NewDatagrams(s, tsp.DatagramConfig{Data: func(b []byte) { data = append(data, bytes.Clone(b)) }})
		m, err := d.Call(t.Context(), tsp.V202.Line())
		if err != nil || m.Code() != tsp.Success || d.RTT() != 0 {
			t.Errorf("%+v, %v, %v", m, err, d.RTT())
		}
		if len(data) != 1 || !bytes.Equal(data[0], packet) {
			t.Errorf("data %x", data)
		}
	})
}

// TestAnswerInParts: an answer longer than its datagram is fetched with bare headers.
func TestAnswerInParts(t *testing.T) {
	offer, err := goodTunnel().Message()
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{len(offer.Bytes()), 400, 100, 40, 0} {
		synctest.Test(t, func(t *testing.T) {
			rest := offer.Bytes()
			s := newSends(t, func(far net.Conn, n int, h tsp.Header, text []byte) {
				if len(text) > 0 != (n == 1) {
					t.Errorf("message %d: %q", n, text)
				}
				part := rest[:min(size, len(rest))]
				rest = rest[len(part):]
				far.Write(h.Datagram(part))
			})
			m, err := tsp.NewDatagrams(s, tsp.DatagramConfig{}).Call(t.Context(), tsp.AcceptMessage().Bytes())
			if small := size < 100; small != (err != nil) || !small && !bytes.Equal(m.Bytes(), offer.Bytes()) {
				t.Errorf("%d at a time: %v", size, err)
			}
		})
	}
}

func TestSixteenMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSends(t, func(far net.Conn, n int, h tsp.Header, text []byte) { far.Write(h.Datagram(nil)) })
		d := tsp.NewDatagrams(s, tsp.DatagramConfig{})
		n := 0
		for d.Tell(t.Context(), []byte("x")) == nil {
			n++
		}
		if n != 16 || s.heads[15].Word != 0xf00000ff {
			t.Errorf("%d messages, last %#x", n, s.heads[len(s.heads)-1].Word)
		}
	})
}

// TestTellText: what comes with the answer to accept matters when it refuses.
func TestTellText(t *testing.T) {
	for text, want := range map[string]tsp.Code{
		"": 0, "200 Success\r\n": 0, "whatever": 0, "Content-length: x": 0, "310 Failed to confirm client tunnel\r\n": tsp.ServerError,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSends(t, func(far net.Conn, n int, h tsp.Header, _ []byte) { far.Write(h.Datagram([]byte(text))) })
			err := tsp.NewDatagrams(s, tsp.DatagramConfig{}).Tell(t.Context(), tsp.AcceptMessage().Bytes())
			var status *tsp.Error
			if errors.As(err, &status) != (want != 0) || status != nil && status.Code != want || err != nil && want == 0 {
				t.Errorf("%q: %v", text, err)
			}
		})
	}
}

func TestEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := tsptest.DatagramPipe(nil)
		b := offerForAll()
		defer servePackets(t, b, far)()
		if _, err := tsp.NewDatagrams(near, tsp.DatagramConfig{}).Echo(t.Context()); err != nil || messagesRun(b) != 0 {
			t.Errorf("%v, %d messages run", err, messagesRun(b))
		}
		s := newSends(t, func(far net.Conn, n int, h tsp.Header, text []byte) {
			if got := h.Datagram(text); len(got) != 20 || !tsp.IsEcho(text) {
				t.Errorf("%q", got)
			}
		})
		_, err := tsp.NewDatagrams(s, tsp.DatagramConfig{}).Echo(t.Context())
		if !errors.Is(err, tsp.ErrNoAnswer) || !slices.Equal(s.at, seconds(0, 10, 20)) || time.Since(s.start) != 30*time.Second {
			t.Errorf("%v, sent at %v", err, s.at)
		}
		s = newSends(t, func(far net.Conn, n int, h tsp.Header, text []byte) {
			far.Write(h.Datagram([]byte("530 Server busy\r\n")))
		})
		if _, err := tsp.NewDatagrams(s, tsp.DatagramConfig{}).Echo(t.Context()); err == nil {
			t.Error("a busy broker was taken for a near one")
		}
	})
}

// failing is a connection whose reads fail as a socket does after an ICMP error.
type failing struct {
	*sends
	errs int
}

func (f *failing) Read(b []byte) (int, error) {
	if f.errs > 0 {
		f.errs--
		return 0, &net.OpError{Op: "read", Net: "udp", Err: os.NewSyscallError("recvfrom", syscall.ECONNREFUSED)}
	}
	return f.sends.Read(b)
}

// TestUnreachable: a port unreachable ends a session that never had an answer, at
// once; afterwards it is what anybody could have sent.
func TestUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		echo := func(far net.Conn, n int, h tsp.Header, text []byte) { far.Write(h.Datagram(text)) }
		f := &failing{sends: newSends(t, echo), errs: 1}
		if _, err := tsp.NewDatagrams(f, tsp.DatagramConfig{}).Call(t.Context(), []byte("x")); !errors.Is(err, syscall.ECONNREFUSED) || time.Since(f.start) > 0 {
			t.Error(err)
		}
		f = &failing{sends: newSends(t, echo)}
		d := tsp.NewDatagrams(f, tsp.DatagramConfig{})
		for i, errs := range []int{0, 1, 16} {
			f.errs = errs
			if _, err := d.Call(t.Context(), []byte("x")); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
		f.errs = 17
		if _, err := d.Call(t.Context(), []byte("x")); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("errors without end: %v", err)
		}
	})
}

func TestCancelBeforeSend(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	near, _ := tsptest.DatagramPipe(nil)
	if _, err := tsp.NewDatagrams(near, tsp.DatagramConfig{}).Call(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := tsp.NewStream(readOnly{}).Send(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestSessionsOverStreams: every mechanism, over net.Pipe, with our own broker.
func TestSessionsOverStreams(t *testing.T) {
	for _, method := range []string{"ANONYMOUS", "PLAIN", "DIGEST-MD5", "SCRAM-SHA-256", "any"} {
		for name, password := range map[string]string{"right": "secret", "wrong": "Secret"} {
			t.Run(method+"/"+name, func(t *testing.T) {
				near, far := net.Pipe()
				b := offerForAll()
				served := make(chan error, 1)
				go func() { served <- b.ServeConn(t.Context(), far, client) }()
				k := clientFor(method)
				k.credentials.Password = password
				got, err := k.run(t.Context(), tsp.NewStream(near))
				want := summary(goodTunnel())
				if name == "wrong" && method != "ANONYMOUS" {
					want = fmt.Sprintf("status %d", tsp.AuthFailed)
				}
				if err != nil || got != want {
					t.Errorf("%q, %v", got, err)
				}
				near.Close()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		}
	}
}
