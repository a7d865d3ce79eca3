package tsp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
	"sixin4/tsp/tsptest"
)

// TestBadPath: on a path that loses, copies, delays and reorders, a session ends with
// a tunnel or with ErrNoAnswer, and the broker never runs anything twice.
func TestBadPath(t *testing.T) {
	methods := map[string]int{sasl.Anonymous: 4, sasl.Plain: 5, sasl.DigestMD5: 6, sasl.ScramSHA256: 6}
	tunnels := 0
	for method, messages := range methods {
		for seed := range uint64(40) {
			synctest.Test(t, func(t *testing.T) {
				near, far := tsptest.DatagramPipe(&tsptest.Path{
					Random: rand.New(rand.NewPCG(seed, 1)), Loss: 0.25, Copy: 0.25, Delay: 3 * time.Second,
				})
				b := offerForAll()
				stop := servePackets(t, b, far)
				got, err := clientFor(method).run(t.Context(), tsp.NewDatagrams(near, tsp.DatagramConfig{}))
				time.Sleep(time.Minute) // what is late arrives late
				stop()
				if ran := messagesRun(b); ran > messages || len(b.Sessions()) > 1 || len(b.Accepts()) > 1 {
					t.Errorf("%s seed %d: %d messages run in %d sessions", method, seed, ran, len(b.Sessions()))
				}
				switch {
				case err == nil && got == summary(goodTunnel()) && len(b.Accepts()) == 1:
					tunnels++
				case !errors.Is(err, tsp.ErrNoAnswer):
					t.Errorf("%s seed %d: %q, %v", method, seed, got, err)
				}
			})
		}
	}
	if tunnels < 120 {
		t.Errorf("%d tunnels of 160", tunnels)
	}
}

func TestCancelDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := tsptest.DatagramPipe(nil)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := tsp.NewDatagrams(near, tsp.DatagramConfig{}).Call(ctx, tsp.V202.Line())
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, tsp.ErrNoAnswer) {
			t.Error(err)
		}
		if took := time.Since(start); took != 1500*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// TestReplayLossy plays every script for datagrams on a bad path: the client comes to
// the same end as on a good one, or gives up.
func TestReplayLossy(t *testing.T) {
	played, ended := 0, 0
	eachConnection(t, "client", true, func(t *testing.T, s script, c connection) {
		for seed := range uint64(8) {
			near, far := tsptest.DatagramPipe(&tsptest.Path{
				Random: rand.New(rand.NewPCG(seed, 2)), Loss: 0.2, Copy: 0.2, Delay: 1500 * time.Millisecond,
			})
			k, err := newClientOf(c)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- playLossy(far, c.turns) }()
			got, err := k.run(t.Context(), tsp.NewDatagrams(near, tsp.DatagramConfig{}))
			time.Sleep(time.Minute) // what is late arrives late
			far.Close()
			if err := <-done; err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			played++
			switch {
			case err == nil && got == c.want:
				ended++
			case !errors.Is(err, tsp.ErrNoAnswer):
				t.Errorf("seed %d: %q, %v\nwant %s", seed, got, err, c.want)
			}
		}
	})
	if ended*10 < played*9 {
		t.Errorf("%d of %d came to their end", ended, played)
	}
}

// playLossy is playBrokerDatagrams for a path on which datagrams get lost, are late
// and come twice.
func playLossy(conn net.Conn, turns []turn) error {
	replies, buf := tsp.NewReplies(tsp.RepliesConfig{}), make([]byte, 1<<16)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil // closed
		}
		h, text, err := tsp.ParseHeader(buf[:n])
		if err != nil {
			return err
		}
		verdict, answer := replies.Check(time.Now(), client, h, text)
		if verdict == tsp.Fresh {
			for len(turns) > 1 && turns[1].client {
				turns = turns[1:] // was lost when it was recorded
			}
			if len(turns) < 2 || !bytes.Equal(text, sent(turns[0].text)) {
				return fmt.Errorf("client said %q", text)
			}
			answer = replies.Answer(client, h, turns[1].text)
			turns = turns[2:]
		}
		if answer != nil {
			_, _ = conn.Write(answer)
		}
	}
}
