package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/programtest"
	"sixin4/tun/nstest"
)

const metricsAt = "127.0.0.1:9641"

// fetch asks for a path in a namespace, and returns status and text.
func fetch(t *testing.T, ns *nstest.NS, path string) (code int, text string) {
	t.Helper()
	return programtest.Get(t, ns, metricsAt, path)
}

// TestMetrics: the page of a broker has no fault, and readiness follows drain.
func TestMetrics(t *testing.T) {
	d, topo := newDesk(t), namespace(t)
	b := serveIn(t, topo.B, "--prefix", "2001:db8:1000::/36", "--state", d.path("tspd.db"), "--socket", d.path("s"),
		"--iterations", "4096", "--metrics", metricsAt)
	if b.ready == "" {
		b.code()
		t.Fatal(b.stderr.String())
	}
	// A client that nobody knows: its login is refused.
	line := ask(t, topo, "VERSION=2.0.0\r\nAUTHENTICATE ANONYMOUS\r\n")
	if !strings.Contains(line, "300") {
		t.Errorf("the broker said %q", line)
	}
	programtest.HasLines(t, programtest.Metrics(t, topo.B, metricsAt),
		`sixin4_build_info{program="tspd",version=`, `sixin4_tunnel_up{tunnel="tspd0",mode="broker"} 1`,
		`sixin4_broker_tunnels{state="up"} 0`, `sixin4_broker_db_up 1`, `sixin4_broker_draining 0`,
		`sixin4_broker_prefix_pool_free{pool="2001:db8:1000::/36"} 268435455`,
		`sixin4_broker_sessions_total{transport="tcp"} 1`, `sixin4_tsp_requests_total{result="300"} 1`,
		`sixin4_broker_auth_failures_total{mechanism="`, "process_open_fds ")
	if code, text := fetch(t, topo.B, "/readyz"); code != http.StatusOK || text != "{\"ready\":true}\n" {
		t.Errorf("readyz: %d, %s", code, text)
	}
	if code, _, stderr := tspd("drain", "--socket", d.path("s")); code != exit.OK {
		t.Fatalf("drain: %s", stderr)
	}
	if code, text := fetch(t, topo.B, "/readyz"); code != http.StatusServiceUnavailable || text != "{\"ready\":false,\"reason\":\"draining: no new tunnels\"}\n" {
		t.Errorf("readyz while draining: %d, %s", code, text)
	}
	b.stop()
}

// ask sends lines to the broker over TCP, and returns all that it says.
func ask(t *testing.T, topo *nstest.Topology, lines string) (said string) {
	t.Helper()
	err := topo.A.Do(func() error {
		c, err := net.Dial("tcp", topo.AddrB.String()+":3653")
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := io.WriteString(c, lines); err != nil {
			return err
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		said = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return said
}

func TestMetricsRefused(t *testing.T) {
	d, topo := newDesk(t), namespace(t)
	for _, tt := range []struct{ name, metrics, want string }{
		{"not of this host", "192.0.2.99:9641", "metrics on 192.0.2.99:9641: cannot assign requested address: no interface of this host has this address"},
		{"the broker's own port", topo.AddrB.String() + ":3653", "address already in use: another program has this port"},
	} {
		b := serveIn(t, topo.B, "--prefix", "2001:db8:1000::/36", "--state", d.path("tspd.db"), "--socket", d.path("s"), "--metrics", tt.metrics)
		if code := b.code(); code != exit.Failure || !strings.Contains(b.stderr.String(), tt.want) {
			t.Errorf("%s: %d, %s; want %s", tt.name, code, b.stderr.String(), tt.want)
		}
	}
}
