package control

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestJSON(t *testing.T) {
	full := tunnel("six0")
	got, err := json.Marshal(Status{Tunnels: []Tunnel{full}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"tunnels":[{"name":"six0","mode":"static","state":"up","wire":"raw","local":"192.0.2.1","remote":"198.51.100.1",` +
		`"addresses":["2001:db8::2/64"],"mtu":1480,"since":"2026-01-02T15:02:35Z","tx":{"packets":10,"bytes":1000},` +
		`"rx":{"packets":20,"bytes":2097152},"drops":{"ecn":40,"not-peer":3,"too-big":3},"peers":[{"remote":"198.51.100.1",` +
		`"prefixes":["::/0"],"mtu":1480,"last_heard":"2026-01-02T15:04:03Z","tx":{"packets":10,"bytes":1000},"rx":{"packets":20,"bytes":2097152}}]}]}`
	if string(got) != want {
		t.Errorf("JSON:\n got %s\nwant %s", got, want)
	}
}

func TestText(t *testing.T) {
	hub := tunnel("hub0")
	hub.Remote, hub.State, hub.Reason = "", "down", "no route"
	hub.Drops = nil
	hub.Peers = append(hub.Peers, Peer{Remote: "203.0.113.7", Prefixes: []string{"2001:db8:2::/48", "fd00::/8"}, MTU: 1280})
	var text strings.Builder
	given, asking := tunnel("six1"), Tunnel{Name: "six2", State: "connecting", Reason: "no answer", Since: now.Add(-time.Second), Mode: "v6v4"}
	given.Mode, given.Peers = "v6v4", nil
	given.TSP = &TSP{Server: "broker.example.net", User: "alice", Lifetime: 86400, Next: now.Add(time.Hour)}
	asking.TSP = &TSP{Server: "192.0.2.2"}
	if err := (Status{Tunnels: []Tunnel{tunnel("six0"), hub, given, asking}}).WriteText(&text, now); err != nil {
		t.Fatal(err)
	}
	want := `six0: up, running for 1m30s
  tunnel    192.0.2.1 -> 198.51.100.1, static, raw, mtu 1480
  address   2001:db8::2/64
  sent      10 packets, 1000 B
  received  20 packets, 2.0 MiB, the last 2s ago
  dropped   ecn 40, not-peer 3, too-big 3

hub0: down (no route), running for 1m30s
  tunnel    192.0.2.1 -> 2 peers, static, raw, mtu 1480
  address   2001:db8::2/64
  sent      10 packets, 1000 B
  received  20 packets, 2.0 MiB
  peer      198.51.100.1  ::/0                      mtu 1480  heard 2s ago  sent 10 packets, 1000 B  received 20 packets, 2.0 MiB
  peer      203.0.113.7   2001:db8:2::/48,fd00::/8  mtu 1280  never heard   sent 0 packets, 0 B      received 0 packets, 0 B

six1: up, running for 1m30s
  broker    broker.example.net, user alice, lifetime 24h0m0s, asked again in 1h0m0s
  tunnel    192.0.2.1 -> 198.51.100.1, v6v4, raw, mtu 1480
  address   2001:db8::2/64
  sent      10 packets, 1000 B
  received  20 packets, 2.0 MiB
  dropped   ecn 40, not-peer 3, too-big 3

six2: connecting (no answer), running for 1s
  broker    192.0.2.2, anonymous
  sent      0 packets, 0 B
  received  0 packets, 0 B
`
	if text.String() != want {
		t.Errorf("text:\n%s\nwant\n%s", text.String(), want)
	}
}

func TestTextFails(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	if err := (Status{Tunnels: []Tunnel{tunnel("six0")}}).WriteText(w, now); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("WriteText to a closed pipe: %v, want %v", err, syscall.EPIPE)
	}
}

func TestSize(t *testing.T) {
	for _, tt := range []struct {
		n    uint64
		want string
	}{
		{0, "0 B"}, {1023, "1023 B"}, {1024, "1.0 KiB"}, {1536, "1.5 KiB"}, {1 << 30, "1.0 GiB"},
		{1<<64 - 1, "16384.0 PiB"},
	} {
		if got := size(tt.n); got != tt.want {
			t.Errorf("size(%d) = %q, want %q", tt.n, got, tt.want)
		}
	}
}
