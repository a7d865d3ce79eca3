package broker_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/client"
)

// TestMerged: our client and a broker that offers all there is agree on merged TCP over
// each transport and with each login, and only when both take it.
func TestMerged(t *testing.T) {
	for _, over := range []client.Transport{client.UDP, client.TCP} {
		for _, l := range logins() {
			for _, ends := range [][2]bool{{true, true}, {true, false}, {false, true}, {false, false}} {
				ours, theirs := ends[0], ends[1]
				t.Run(fmt.Sprintf("%v/%s/broker %v, client %v", over, l.method, ours, theirs), func(t *testing.T) {
					inWorld(t, func(c *broker.Config) { c.Merged = ours }, func(t *testing.T, w *world) {
						lease := w.lease(client.Config{
							Method: l.method, User: l.user, Password: l.password,
							Request: tsp.Request{Type: tsp.V6AnyV4, Keepalive: 30 * time.Second}, Transport: over, Merged: theirs,
						})
						if got := w.pool.asks[0].Merged; got != (ours && theirs) {
							t.Errorf("the Provisioner hears that the client takes them: %v", got)
						}
						if lease.Merged != ours {
							t.Errorf("the client hears that the broker takes them: %v", lease.Merged)
						}
					})
				})
			}
		}
	}
}

// lease is what a client gets that asks once.
func (w *world) lease(c client.Config) *client.Lease {
	w.t.Helper()
	path := new(road)
	c.Servers, c.Network, c.Path = []client.Server{{Host: here.Addr().String()}}, host{w}, path
	c.Once, c.GiveUp = true, client.Always
	k, err := client.New(c)
	if err == nil {
		err = k.Run(w.t.Context())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return path.up[0]
}

// announce makes the recording one of a broker that takes merged TCP, and says how often
// that is told: it must fit into five times the datagram of a stranger.
func (r *recording) announce() (told int) {
	r.turns = slices.Clone(r.turns)
	asked := 0
	for i, t := range r.turns {
		if t.client {
			asked = tsp.HeaderLen + len(t.text)
			continue
		}
		line, ok := bytes.CutPrefix(t.text, []byte("CAPABILITY"))
		line = bytes.Replace(line, []byte("\r\n"), []byte(" M=TCP\r\n"), 1)
		if text := append([]byte("CAPABILITY"), line...); ok && (!r.udp || tsp.HeaderLen+len(text) <= 5*asked) {
			r.turns[i].text = text
			told++
		}
	}
	return told
}
