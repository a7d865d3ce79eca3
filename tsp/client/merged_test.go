package client_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/tsptest"
)

// merging is a broker that says that it takes merged TCP.
func merging(c tsptest.Config) tsptest.Config {
	c.Offers.Merged = true
	return c
}

// TestMerged: a broker hears of merged TCP when both ends take it, and when it has said so
// first. One of old never sees a byte of it.
func TestMerged(t *testing.T) {
	for _, tt := range []struct {
		name                string
		broker, host, proxy bool
		told                bool
	}{
		{"both", true, true, false, true},
		{"only the broker", true, false, false, false},
		{"only this host", false, true, false, false},
		{"neither", false, false, false, false},
		{"both, for another host", true, true, true, false},
	} {
		for _, over := range []client.Transport{client.UDP, client.TCP} {
			t.Run(fmt.Sprint(tt.name, "/", over), func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					b := w.broker(brokerAddr, tsptest.Config{Offers: tsp.Capability{Merged: tt.broker}})
					c, said := w.config(), ""
					c.Merged, c.Request.Merged, c.Request.Proxy, c.Transport, c.Once = tt.host, true, tt.proxy, over, true
					c.Trace = func(sent bool, text []byte) {
						if sent {
							said += string(text)
						}
					}
					if err := w.run(c); err != nil {
						t.Fatal(err)
					}
					if got := b.Accepts()[0].Request.Merged; got != tt.told {
						t.Errorf("told the broker: %v", got)
					}
					if strings.Contains(said, "merged") != tt.told || !strings.Contains(said, "<tunnel") {
						t.Errorf("said %q", said)
					}
					if got := w.leases()[0].Merged; got != tt.broker {
						t.Errorf("the broker takes them: %v", got)
					}
				})
			})
		}
	}
}

// TestMergedRenewed: what a broker said in an earlier session counts for that one only.
func TestMergedRenewed(t *testing.T) {
	for _, first := range []bool{false, true} {
		t.Run(fmt.Sprintf("first %v", first), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				b := w.broker(brokerAddr, tsptest.Config{Offers: tsp.Capability{Merged: first}})
				c := w.config()
				c.Merged = true
				w.start(c)
				await[client.Up](w)
				b.Change(func(c *tsptest.Config) { c.Offers.Merged = !first })
				await[client.Up](w)
				for i, l := range w.leases() {
					if want := first == (i == 0); l.Merged != want || b.Accepts()[i].Request.Merged != want {
						t.Errorf("session %d: lease %v, asked with %v", i, l.Merged, b.Accepts()[i].Request.Merged)
					}
				}
				if age := w.leases()[1].Since.Sub(w.leases()[0].Since); age < time.Hour {
					t.Errorf("not a renewal, after %v", age)
				}
				w.stop()
			})
		})
	}
}

// TestMergedRedirected: what counts is what the broker of the lease says, not the one that
// sent us there.
func TestMergedRedirected(t *testing.T) {
	for _, first := range []bool{false, true} {
		for _, at := range []tsptest.Step{tsptest.Verdict, tsptest.Create} {
			t.Run(fmt.Sprintf("first %v, at %v", first, at), func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					from, to := redirects(at, addr(2).String()), tsptest.Config{}
					if first {
						from = merging(from)
					} else {
						to = merging(to)
					}
					w.broker(brokerAddr, from)
					b := w.broker(addr(2), to)
					c := w.config()
					c.Merged, c.Once = true, true
					if err := w.run(c); err != nil {
						t.Fatal(err)
					}
					if l := w.leases()[0]; l.Merged == first || b.Accepts()[0].Request.Merged == first {
						t.Errorf("lease %v, asked with %v", l.Merged, b.Accepts()[0].Request.Merged)
					}
				})
			})
		}
	}
}
