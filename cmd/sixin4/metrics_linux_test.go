package main

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/programtest"
	"sixin4/tsp"
	"sixin4/tsp/tsptest"
	"sixin4/tun/nstest"
)

const metricsAt = "127.0.0.1:9641"

// fetch asks for a path in a namespace, and returns status and text.
func fetch(t testing.TB, ns *nstest.NS, path string) (code int, text string) {
	t.Helper()
	return programtest.Get(t, ns, metricsAt, path)
}

// scrape returns a page of metrics that has no fault.
func scrape(t testing.TB, ns *nstest.NS) string {
	t.Helper()
	return programtest.Metrics(t, ns, metricsAt)
}

// has wants lines on a page.
func has(t testing.TB, page string, lines ...string) {
	t.Helper()
	programtest.HasLines(t, page, lines...)
}

// TestMetrics: the page of a static tunnel follows what the tunnel does, and readiness
// follows its link.
func TestMetrics(t *testing.T) {
	topo := pair(t)
	up := []string{"up", "--remote", topo.AddrB.String(), "--name", "six0", "--address", "2001:db8::1/64", "--metrics", metricsAt}
	p := start(t, topo.A, "main", append(up, "--socket", socketIn(t, "six0"))...)
	p.ready()
	far := start(t, topo.B, "main", "up", "--remote", topo.AddrA.String(), "--name", "six0", "--address", "2001:db8::2/64", "--socket", socketIn(t, "far"))
	far.ready()
	has(t, scrape(t, topo.A), `sixin4_tunnel_up{tunnel="six0",mode="static"} 1`, `sixin4_build_info{program="sixin4",version=`,
		`sixin4_tunnel_mtu_bytes{tunnel="six0"} 1480`, "go_goroutines ", "process_resident_memory_bytes ")
	echo(t, topo, 100)
	nstest.Eventually(t, patience, "the echo is counted", func() bool { // packets arrive before they are counted
		page := scrape(t, topo.A)
		return !strings.Contains(page, `sixin4_tunnel_receive_packets_total{tunnel="six0"} 0`) &&
			!strings.Contains(page, `sixin4_tunnel_transmit_bytes_total{tunnel="six0"} 0`) &&
			strings.Contains(page, `sixin4_tunnel_last_receive_timestamp_seconds{tunnel="six0"} `)
	})
	if code, text := fetch(t, topo.A, "/readyz"); code != http.StatusOK || text != "{\"ready\":true}\n" {
		t.Errorf("readyz: %d, %s", code, text)
	}
	if err := topo.A.SetDown("six0"); err != nil {
		t.Fatal(err)
	}
	p.await(p.stderr, "is down")
	code, text := fetch(t, topo.A, "/readyz")
	if code != http.StatusServiceUnavailable || !strings.Contains(text, `{"ready":false,"reason":"down: `) {
		t.Errorf("readyz of an interface that is down: %d, %s", code, text)
	}
	if code, _ := fetch(t, topo.A, "/healthz"); code != http.StatusOK {
		t.Errorf("healthz of a tunnel that is down: %d", code)
	}
	has(t, scrape(t, topo.A), `sixin4_tunnel_up{tunnel="six0",mode="static"} 0`)
	far.stop()
	p.stop()
}

// TestMetricsRefused: another program has the port; nothing is left then.
func TestMetricsRefused(t *testing.T) {
	topo := pair(t)
	before := dump(t, topo.A)
	var taken net.Listener
	must(t, topo.A.Do(func() (err error) { taken, err = net.Listen("tcp", metricsAt); return err }))
	defer taken.Close()
	for _, tt := range []struct {
		name, metrics string
		code          int
		want          string
	}{
		{"taken", metricsAt, exit.Failure, "metrics on 127.0.0.1:9641: address already in use: another program has this port (ss -lntp shows it)"},
		{"not of this host", "203.0.113.9:9641", exit.Failure, "metrics on 203.0.113.9:9641: cannot assign requested address: no interface of this host has this address"},
		{"no address", ":9641", exit.Usage, "--metrics :9641: a port without an address, like 127.0.0.1:9641 for this host alone"},
	} {
		p := start(t, topo.A, "main", "up", "--remote", topo.AddrB.String(), "--name", "six0", "--metrics", tt.metrics, "--socket", socketIn(t, "six0"))
		if code := p.code(); code != tt.code || !strings.Contains(p.stderr.text(), tt.want) {
			t.Errorf("%s: %d, %s; want %d, %s", tt.name, code, p.stderr.text(), tt.code, tt.want)
		}
		sameAs(t, topo.A, before)
	}
}

// TestMetricsOfConnect: what the broker says is counted; before there is a tunnel the
// process is alive and not ready.
func TestMetricsOfConnect(t *testing.T) {
	t.Parallel()
	b := brokerAt(t, tsptest.Config{})
	b.broker.Change(func(c *tsptest.Config) {
		c.Answer = func(*tsp.Request, netip.Addr) (*tsp.Tunnel, error) { return nil, &tsp.Error{Code: tsp.Busy} }
	})
	b.farEnd(b.host)
	p := b.connect("--transport", "tcp", "--metrics", metricsAt, "--retry-delay", "1s", "--retry-max", "1s")
	p.await(p.stderr, "530")
	code, text := fetch(t, b.topo.A, "/readyz")
	if code != http.StatusServiceUnavailable || !strings.Contains(text, `"ready":false`) {
		t.Errorf("readyz without a tunnel: %d, %s", code, text)
	}
	has(t, scrape(t, b.topo.A), `sixin4_tsp_requests_total{result="530"} `, `sixin4_tunnel_up{tunnel="six0",mode="v6anyv4"} 0`)
	b.broker.Change(func(c *tsptest.Config) { c.Answer = b.offer })
	p.ready()
	if code, text := fetch(t, b.topo.A, "/readyz"); code != http.StatusOK {
		t.Errorf("readyz: %d, %s", code, text)
	}
	has(t, scrape(t, b.topo.A), `sixin4_tsp_requests_total{result="200"} 1`, `sixin4_tunnel_up{tunnel="six0",mode="v6v4"} 1`,
		`sixin4_tunnel_lease_lifetime_seconds{tunnel="six0"} 604800`, `sixin4_tunnel_endpoint_changes_total{tunnel="six0"} 0`)
	nstest.Eventually(t, patience, "a round trip is measured", func() bool {
		return strings.Contains(scrape(t, b.topo.A), `sixin4_tunnel_keepalive_rtt_seconds{tunnel="six0"} 0.`)
	})
	p.stop()
}
