package tsp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/tsptest"
)

// eachConnection runs a test of one side for every connection of one transport.
func eachConnection(t *testing.T, side string, udp bool, f func(t *testing.T, s script, c connection)) {
	for _, s := range scripts(t) {
		if s.udp != udp || s.plays != "" && s.plays != side {
			continue
		}
		for i, c := range s.conns {
			t.Run(fmt.Sprintf("%s/%d", s.name, i), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { f(t, s, c) })
			})
		}
	}
}

// sent is what our client says where another one was recorded: the same, without the
// zero byte that the other has behind its AUTHENTICATE line.
func sent(text []byte) []byte {
	if bytes.HasPrefix(text, []byte("AUTHENTICATE")) {
		return bytes.TrimRight(text, "\x00")
	}
	return text
}

// segments are ways in which a stream may cut what one side wrote.
var segments = map[string]func(io.Writer, []byte) error{
	"whole": func(w io.Writer, b []byte) error {
		_, err := w.Write(b)
		return err
	},
	"byte by byte": func(w io.Writer, b []byte) error {
		for i := range b {
			if _, err := w.Write(b[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	},
}

func TestReplayClientStream(t *testing.T) {
	for name, write := range segments {
		t.Run(name, func(t *testing.T) {
			eachConnection(t, "client", false, func(t *testing.T, s script, c connection) {
				near, far := net.Pipe()
				result := make(chan error, 1)
				go func() { result <- playBroker(far, c.turns, write) }()
				checkClient(t, c, tsp.NewStream(near))
				go io.Copy(io.Discard, near) // a client need not read to the end
				if err := <-result; err != nil {
					t.Error(err)
				}
				near.Close()
				far.Close()
			})
		})
	}
}

// playBroker says the S lines of a connection, and wants the C lines to the byte.
// Answers in a row go out together, which is the hardest for a client.
func playBroker(conn net.Conn, turns []turn, write func(io.Writer, []byte) error) error {
	for len(turns) > 0 {
		if turns[0].client {
			want := sent(turns[0].text)
			got := make([]byte, len(want))
			if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
				return fmt.Errorf("client said %q, want %q: %w", got[:n], want, err)
			}
			turns = turns[1:]
			continue
		}
		var text []byte
		for len(turns) > 0 && !turns[0].client {
			text, turns = append(text, turns[0].text...), turns[1:]
		}
		if err := write(conn, text); err != nil {
			return err
		}
	}
	return nil
}

// checkClient runs the client of a recording and compares what came out.
func checkClient(t *testing.T, c connection, transport tsp.Transport) {
	t.Helper()
	k, err := newClientOf(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	got, err := k.run(ctx, transport)
	if err != nil || got != c.want {
		t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
	}
}

func TestReplayServerStream(t *testing.T) {
	for name, write := range segments {
		t.Run(name, func(t *testing.T) {
			eachConnection(t, "broker", false, func(t *testing.T, s script, c connection) {
				r, err := brokerOf(c)
				if err != nil {
					t.Fatal(err)
				}
				b := tsptest.New(r.Config)
				near, far := net.Pipe()
				served := make(chan error, 1)
				go func() {
					defer far.Close()
					served <- b.ServeConn(t.Context(), far, client)
				}()
				err = playClient(near, c.turns, write, s.foreign)
				near.Close()
				if serr := <-served; err != nil || serr != nil {
					t.Errorf("%v; broker: %v", err, serr)
				}
				checkBroker(t, c, b)
			})
		})
	}
}

// playClient says the C lines of a connection and wants the S lines to the byte. Of a
// broker in other words it only wants as many answers.
func playClient(conn net.Conn, turns []turn, write func(io.Writer, []byte) error, foreign bool) (err error) {
	answers := tsp.NewStream(conn)
	texts, failed := make(chan []byte, len(turns)), make(chan error, 1)
	go func() { // by itself, for a zero byte behind a line may wait until the answer has been read
		var err error
		for text := range texts {
			if err == nil {
				err = write(conn, text)
			}
		}
		failed <- err
	}()
	defer func() {
		close(texts)
		err = errors.Join(err, <-failed)
	}()
	for _, t := range turns {
		switch {
		case t.client:
			texts <- t.text
		case foreign:
			if _, err := answers.Call(context.Background(), nil); err != nil {
				return err
			}
		default:
			got := make([]byte, len(t.text))
			if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, t.text) {
				return fmt.Errorf("broker said %q, want %q: %w", got[:n], t.text, err)
			}
		}
	}
	return nil
}

// checkBroker makes sure that the broker got to where the recorded one did: in one
// session, to a tunnel that is up, or to a refusal.
func checkBroker(t *testing.T, c connection, b *tsptest.Broker) {
	t.Helper()
	tunnels := 1
	if strings.HasPrefix(c.want, "status") {
		tunnels = 0
	}
	sessions, accepts := b.Sessions(), b.Accepts()
	if len(sessions) != 1 || len(accepts) != tunnels {
		t.Fatalf("%d sessions, %d tunnels", len(sessions), len(accepts))
	}
	messages := c.texts(true)
	if s := sessions[0]; tunnels == 1 && s.Messages != len(messages)-c.lost() {
		t.Errorf("%d messages run of %d", s.Messages, len(messages))
	}
}

func TestReplayClientDatagrams(t *testing.T) {
	eachConnection(t, "client", true, func(t *testing.T, s script, c connection) {
		near, far := tsptest.DatagramPipe(nil)
		result := make(chan error, 1)
		go func() { result <- playBrokerDatagrams(far, c.turns) }()
		checkClient(t, c, tsp.NewDatagrams(near, tsp.DatagramConfig{}))
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

// playBrokerDatagrams is playBroker for datagrams. Only the timestamps are the
// client's own; they come back as a broker does it.
func playBrokerDatagrams(conn net.Conn, turns []turn) error {
	var timestamp uint32
	buf := make([]byte, 4096)
	for _, t := range turns {
		if !t.client {
			t.header.Timestamp = timestamp
			conn.Write(t.header.Datagram(t.text))
			continue
		}
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		h, text, err := tsp.ParseHeader(buf[:n])
		if err != nil || h.Word != t.header.Word || !bytes.Equal(text, sent(t.text)) {
			return fmt.Errorf("client said %x %q, want %x %q: %w", h.Word, text, t.header.Word, sent(t.text), err)
		}
		timestamp = h.Timestamp
	}
	return nil
}

func TestReplayServerDatagrams(t *testing.T) {
	eachConnection(t, "broker", true, func(t *testing.T, s script, c connection) {
		r, err := brokerOf(c)
		if err != nil {
			t.Fatal(err)
		}
		b := tsptest.New(r.Config)
		near, far := tsptest.DatagramPipe(nil)
		stop := servePackets(t, b, far)
		buf := make([]byte, 1<<16)
		for i, turn := range c.turns {
			if !turn.client || i+1 < len(c.turns) && c.turns[i+1].client {
				continue // an answer, or a datagram that was lost
			}
			near.Write(turn.header.Datagram(turn.text))
			n, err := near.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			want := c.turns[i+1].header.Datagram(c.turns[i+1].text)
			if !bytes.Equal(buf[:n], want) && !s.foreign {
				t.Errorf("broker said\n%q, want\n%q", buf[:n], want)
			}
			if n < tsp.HeaderLen || !bytes.Equal(buf[:tsp.HeaderLen], want[:tsp.HeaderLen]) {
				t.Errorf("header % x, want % x", buf[:n], want[:tsp.HeaderLen])
			}
		}
		stop()
		checkBroker(t, c, b)
	})
}

func TestRecordedData(t *testing.T) {
	n := 0
	for _, s := range scripts(t) {
		for _, c := range s.conns {
			for _, packet := range c.data {
				if n++; tsp.Classify(packet) != tsp.Data {
					t.Errorf("%s: % x is not data", s.name, packet[:8])
				}
			}
			for _, turn := range c.turns {
				if s.udp && tsp.Classify(turn.header.Datagram(turn.text)) != tsp.Control {
					t.Errorf("%s: %x is not control", s.name, turn.header.Word)
				}
			}
		}
	}
	if n == 0 {
		t.Error("no data was recorded")
	}
}
