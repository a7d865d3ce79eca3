package metrics

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"sixin4/cmd/internal/control"
	"sixin4/encap"
	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
)

// TestMain lets be that net/http waits half a second before it closes a connection whose
// request it did not read to the end.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

func TestPage(t *testing.T) {
	var p Page
	p.Gauge("a", "first, of two lines\nand a \\", 1.5)
	p.Counter("b_total", "second", 1<<40, "x", "plain", "y", "a \"quoted\" \\ and\na line, and no UTF-8: \xff")
	p.Gauge("a", "another help, which is not used", -2, "x", "")
	p.time("never", "a moment that never was", time.Time{})
	p.time("then", "a moment", time.UnixMilli(1_700_000_000_250))
	want := `# HELP a first, of two lines\nand a \\
# TYPE a gauge
a 1.5
a{x=""} -2
# HELP b_total second
# TYPE b_total counter
b_total{x="plain",y="a \"quoted\" \\ and\na line, and no UTF-8: ` + "\ufffd" + `"} 1099511627776
# HELP then a moment
# TYPE then gauge
then 1700000000.25
`
	if got := string(p.Bytes()); got != want {
		t.Errorf("page:\n%s\nwant:\n%s", got, want)
	}
}

var now = time.UnixMilli(1_700_000_000_000)

func tunnel() control.Tunnel {
	return control.Tunnel{
		Name: "six0", Mode: "static", State: "up", Wire: "raw", Local: "192.0.2.1", Remote: "198.51.100.1",
		MTU: 1480, Since: now, Tx: control.Count{Packets: 10, Bytes: 1000}, Rx: control.Count{Packets: 20, Bytes: 2 << 20},
		Drops: map[string]uint64{"not-peer": 3, "too-big": 2, "inner-version": 1},
		Work:  &control.Work{Split: 1, SplitInto: 44, ICMPErrors: 7},
		Peers: []control.Peer{{LastHeard: now.Add(time.Second)}, {LastHeard: now.Add(3 * time.Second)}, {}},
		TSP:   &control.TSP{Lifetime: 600, Next: now.Add(time.Hour)},
	}
}

func stats() broker.Stats {
	return broker.Stats{
		Sessions: map[string]uint64{"udp": 9}, Tunnels: 5, Echoes: 4, Conns: 3, Idle: 2,
		Codes:        map[tsp.Code]uint64{tsp.AuthFailed: 6, tsp.Busy: 1},
		AuthFailures: map[string]uint64{"PLAIN": 6}, Drops: map[broker.Drop]uint64{broker.DropRate: 8},
	}
}

// whole is a page with everything on it.
func whole() *Page {
	var p Page
	p.build(Build{Program: "tspd", Version: "v1"})
	p.Tunnel(tunnel())
	p.Path("six0", Path{EndpointChanges: 1, RTT: 1500 * time.Microsecond})
	p.Broker(Broker{
		Stats: stats(), Leases: map[store.State]int{store.Up: 2, store.Quarantined: 1},
		Usage: store.Usage{Addresses: 3, Prefixes: 1, Free: 65534, Largest: 48},
	})
	p.process()
	return &p
}

func TestLint(t *testing.T) {
	problems, err := promlint.New(bytes.NewReader(whole().Bytes())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// TestLintCanFail: a page that is wrong is found.
func TestLintCanFail(t *testing.T) {
	var p Page
	p.Counter("sixin4_wrong_total", "", 1)
	if problems, err := promlint.New(bytes.NewReader(p.Bytes())).Lint(); err != nil || len(problems) == 0 {
		t.Errorf("%v, %v; want a problem", problems, err)
	}
}

// values reads a page line by line.
func values(t *testing.T, page []byte) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for line := range strings.Lines(string(page)) {
		if line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if _, twice := all[line[:i]]; twice {
			t.Errorf("twice: %s", line)
		}
		all[line[:i]] = strings.TrimSpace(line[i:])
	}
	return all
}

func TestValues(t *testing.T) {
	got := values(t, whole().Bytes())
	for sample, want := range map[string]string{
		`sixin4_tunnel_up{tunnel="six0",mode="static"}`:                                          "1",
		`sixin4_tunnel_info{tunnel="six0",wire="raw",local="192.0.2.1",remote="198.51.100.1"}`:   "1",
		`sixin4_tunnel_mtu_bytes{tunnel="six0"}`:                                                 "1480",
		`sixin4_tunnel_receive_bytes_total{tunnel="six0"}`:                                       "2097152",
		`sixin4_tunnel_transmit_packets_total{tunnel="six0"}`:                                    "10",
		`sixin4_tunnel_drop_packets_total{tunnel="six0",direction="receive",reason="not-peer"}`:  "3",
		`sixin4_tunnel_drop_packets_total{tunnel="six0",direction="transmit",reason="too-big"}`:  "2",
		`sixin4_tunnel_drop_packets_total{tunnel="six0",direction="any",reason="inner-version"}`: "1",
		`sixin4_tunnel_drop_packets_total{tunnel="six0",direction="receive",reason="tun-down"}`:  "0",
		`sixin4_tunnel_last_receive_timestamp_seconds{tunnel="six0"}`:                            "1700000003",
		`sixin4_tunnel_peers{tunnel="six0"}`:                                                     "3",
		`sixin4_tunnel_split_into_packets_total{tunnel="six0"}`:                                  "44",
		`sixin4_tunnel_keepalive_rtt_seconds{tunnel="six0"}`:                                     "0.0015",
		`sixin4_tunnel_endpoint_changes_total{tunnel="six0"}`:                                    "1",
		`sixin4_tsp_requests_total{result="200"}`:                                                "5",
		`sixin4_tsp_requests_total{result="300"}`:                                                "6",
		`sixin4_broker_tunnels{state="up"}`:                                                      "2",
		`sixin4_broker_tunnels{state="down"}`:                                                    "0",
		`sixin4_broker_db_up`:                                                                    "1",
		`sixin4_broker_auth_failures_total{mechanism="PLAIN"}`:                                   "6",
		`sixin4_broker_drop_requests_total{reason="rate"}`:                                       "8",
		`sixin4_broker_sessions_total{transport="udp"}`:                                          "9",
		`sixin4_broker_connections{state="tunnel"}`:                                              "2",
	} {
		if got[sample] != want {
			t.Errorf("%s %q, want %q", sample, got[sample], want)
		}
	}
}

// TestOmittedPeers: those that a status does not list count as well.
func TestOmittedPeers(t *testing.T) {
	var p Page
	many := tunnel()
	many.PeersOmitted, many.OmittedHeard = 20_000, now.Add(5*time.Second)
	p.Tunnel(many)
	got := values(t, p.Bytes())
	for sample, want := range map[string]string{"peers": "20003", "last_receive_timestamp_seconds": "1700000005"} {
		if n := got["sixin4_tunnel_"+sample+`{tunnel="six0"}`]; n != want {
			t.Errorf("%s %s, want %s", sample, n, want)
		}
	}
}

// TestMissing: what is not known, or not there, is no sample.
func TestMissing(t *testing.T) {
	var p Page
	p.Tunnel(control.Tunnel{Name: "six0", Mode: "v6anyv4", State: "connecting"})
	p.Path("six0", Path{})
	p.Broker(Broker{})
	got := values(t, p.Bytes())
	if got["sixin4_broker_db_up"] != "0" || got[`sixin4_tunnel_up{tunnel="six0",mode="v6anyv4"}`] != "0" {
		t.Errorf("a database or a tunnel that is not there is up: %v", got)
	}
	names := slices.Collect(maps.Keys(got))
	for _, part := range []string{"mtu_bytes", "timestamp", "rtt", "broker_tunnels", "lifetime", "split"} {
		if slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, part) }) {
			t.Errorf("%s is there", part)
		}
	}
}

// TestDirection has one reason of each part of the list in package encap.
func TestDirection(t *testing.T) {
	for d, want := range map[encap.Drop]string{
		encap.DropOuterShort: "receive", encap.DropNotPeer: "receive",
		encap.DropInnerShort: "any", encap.DropInnerLength: "any",
		encap.DropECN: "receive", encap.DropWireOverflow: "receive",
		encap.DropTunMalformed: "transmit", encap.DropSendError: "transmit",
		encap.DropTunDown: "receive", encap.DropTunError: "receive",
	} {
		if got := direction(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}
