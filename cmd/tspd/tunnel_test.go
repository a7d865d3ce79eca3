package main

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/exit"
	"sixin4/tsp"
	"sixin4/tsp/broker/store"
)

// busy is a database with alice, who has a prefix and is up, bob, who was never
// here, and an anonymous user.
func busy(t *testing.T) (d *desk, broker store.Store, alice, nobody store.Lease) {
	d = newDesk(t)
	broker = d.open()
	t.Setenv("SIXIN4_PASSWORD", password)
	d.run("user add alice --prefix-length 48 --iterations 4096")
	d.run("user add bob --iterations 4096")
	t.Setenv("SIXIN4_PASSWORD", "")
	alice = d.begin(broker, d.user(broker, "alice"), "192.0.2.1:3653")
	return d, broker, alice, d.begin(broker, store.User{}, "198.51.100.7:1024")
}

func TestTunnelList(t *testing.T) {
	d, _, alice, nobody := busy(t)
	lines := strings.Split(d.run("tunnel list"), "\n")
	want := []string{
		"ADDRESS PREFIX OWNER STATE FROM SEEN",
		"2001:db8:1000::2 2001:db8:1001::/48 alice up 192.0.2.1",
		"2001:db8:1000::3 - (anonymous) up 198.51.100.7",
	}
	for i, want := range want {
		if got := strings.Join(strings.Fields(lines[i]), " "); !strings.HasPrefix(got, want) {
			t.Errorf("line %d: %q, want %q", i, got, want)
		}
	}
	if len(lines) != 4 {
		t.Errorf("%d lines", len(lines))
	}
	for _, what := range []string{"alice", "2001:db8:1000::2", "2001:db8:1001:ffff::1", "2001:db8:1001::/48", alice.ID} {
		var found struct{ Tunnels []map[string]any }
		if err := json.Unmarshal([]byte(d.run("tunnel show "+what+" --json")), &found); err != nil || len(found.Tunnels) != 1 {
			t.Fatalf("%s: %v, %v", what, found, err)
		}
		got := found.Tunnels[0]
		if got["id"] != alice.ID || got["user"] != "alice" || got["mode"] != "v6v4" || got["outer"] != "192.0.2.1" ||
			got["node"] != "192.0.2.2" || got["server"] != "2001:db8:1000::1" || got["expires"] != nil {
			t.Errorf("%s: %v", what, got)
		}
	}
	if out := d.run("tunnel show " + nobody.ID + " --json"); strings.Contains(out, `"user"`) || !strings.Contains(out, `"expires"`) {
		t.Errorf("the tunnel of nobody: %s", out)
	}
	d.fails("tunnel show bob", exit.Failure, `user "bob" has no tunnel yet`)
	d.fails("tunnel show 2001:db8:1000::9", exit.Failure, "2001:db8:1000::9 is nobody's (tspd log --address says whose it was)")
	d.fails("tunnel show 2001:db8:1009::/48", exit.Failure, "2001:db8:1009::/48 is nobody's (tspd log --address says whose it was)")
	d.fails("tunnel show carol", exit.Failure, `no tunnel of "carol": an address, a prefix, an ID or the name of a user belongs here`)
}

func TestTunnelDrop(t *testing.T) {
	d, broker, alice, _ := busy(t)
	d.says("tunnel drop 2001:db8:1001::1", "2001:db8:1000::2 with 2001:db8:1001::/48 is down; alice keeps it\n")
	lost, err := broker.Touch(t.Context(), []store.Seen{{ID: alice.ID, Epoch: alice.Epoch, At: time.Now()}})
	if err != nil || len(lost) != 1 {
		t.Errorf("the broker does not learn of it: %v, %v", lost, err)
	}
	code, stdout, stderr := tspd(d.line("tunnel drop alice")...)
	if code != exit.Failure || stdout != "2001:db8:1000::2 is not up\n" || stderr != "tspd: nothing to drop\n" {
		t.Errorf("again: %d, %q, %q", code, stdout, stderr)
	}
	again := d.begin(broker, d.user(broker, "alice"), "192.0.2.1:3653")
	if again.Client6 != alice.Client6 || again.Prefix != alice.Prefix {
		t.Errorf("alice has %v, %v", again.Client6, again.Prefix)
	}

	out := d.run("tunnel drop alice --release --quarantine 1h")
	until, err := time.Parse(time.RFC3339, strings.TrimSpace(strings.TrimPrefix(out, "2001:db8:1000::2 with 2001:db8:1001::/48 stays unused until ")))
	if in := time.Until(until); err != nil || in < 58*time.Minute || in > time.Hour {
		t.Errorf("%q, %v", out, err)
	}
	l, err := broker.Lease(t.Context(), alice.ID)
	if err != nil || l.State != store.Quarantined || l.Expires.Sub(until).Abs() > 2*time.Second {
		t.Errorf("the lease is %+v, %v", l, err)
	}
	code, stdout, _ = tspd(d.line("tunnel drop 2001:db8:1000::2 --release")...)
	if code != exit.Failure || stdout != "2001:db8:1000::2 was given back already\n" {
		t.Errorf("again: %d, %q", code, stdout)
	}
	if out := strings.Join(strings.Fields(d.run("tunnel list")), " "); !strings.Contains(out, " 2001:db8:1001::/48 - quarantined 192.0.2.1 ") {
		t.Errorf("list: %s", out)
	}
}

func TestTunnelDropWithoutQuarantine(t *testing.T) {
	d, broker, alice, _ := busy(t)
	d.says("tunnel drop "+alice.ID+" --release --quarantine 0", "2001:db8:1000::2 with 2001:db8:1001::/48 is free\n")
	if _, err := broker.Lease(t.Context(), alice.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the lease: %v", err)
	}
}

// TestDisableEndsTunnels: and remove gives back.
func TestDisableEndsTunnels(t *testing.T) {
	d, broker, alice, _ := busy(t)
	d.run("user disable alice")
	if l, err := broker.Lease(t.Context(), alice.ID); err != nil || l.State != store.Down {
		t.Errorf("after disable: %+v, %v", l, err)
	}
	if out := d.run("user remove alice"); !strings.HasPrefix(out, "removed alice\n2001:db8:1000::2 with 2001:db8:1001::/48 stays unused until ") {
		t.Errorf("remove: %q", out)
	}
	if l, err := broker.Lease(t.Context(), alice.ID); err != nil || l.State != store.Quarantined {
		t.Errorf("after remove: %+v, %v", l, err)
	}
}

func TestPoolShow(t *testing.T) {
	d, _, _, _ := busy(t)
	d.says("pool show --prefix 2001:db8:1000::/36", "pool 2001:db8:1000::/36\n"+
		"  addresses  2 taken\n  prefixes   1 taken\n"+
		"  free       268369919 networks of /64; the largest prefix that is left is a /48\n")
	var p shownPool
	if err := json.Unmarshal([]byte(d.run("pool show --prefix 2001:db8:1000::/36 --json")), &p); err != nil ||
		p != (shownPool{netip.MustParsePrefix("2001:db8:1000::/36"), 2, 1, 268369919, 48}) {
		t.Errorf("%+v, %v", p, err)
	}
	d.fails("pool show", exit.Usage, "no prefix: give --prefix PREFIX, the IPv6 network that is routed to this host, like 2001:db8:1000::/36")
	d.fails("pool show --prefix 2001:db8:1000::/65", exit.Usage, "--prefix 2001:db8:1000::/65: too small: a /64 is the least, and leaves nothing to delegate; with a /48 every network of a LAN gets a /64")
	other := newDesk(t)
	t.Setenv("SIXIN4_PASSWORD", password)
	other.run("user add alice --iterations 4096")
	other.says("pool show --prefix 2001:db8:1000::/64", "pool 2001:db8:1000::/64\n"+
		"  addresses  0 taken\n  prefixes   0 taken\n  free       no network for prefixes\n")
}

func TestLog(t *testing.T) {
	d, _, _, _ := busy(t)
	d.run("tunnel drop alice --release")
	var got []string
	for line := range strings.Lines(d.run("log")) {
		got = append(got, strings.Join(strings.Fields(line)[1:], " "))
	}
	want := []string{
		"EVENT ADDRESS PREFIX USER FROM",
		"began 2001:db8:1000::2 2001:db8:1001::/48 alice 192.0.2.1",
		"began 2001:db8:1000::3 - (anonymous) 198.51.100.7",
		"returned 2001:db8:1000::2 2001:db8:1001::/48 alice 192.0.2.1",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("log:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, tt := range []struct {
		args    string
		entries int
	}{
		{"", 3},
		{"--address 2001:db8:1001:42::1", 2},
		{"--address 2001:db8:1000::3", 1},
		{"--address 2001:db8:1000::4", 0},
		{"--since 1h", 3},
		{"--until 1h", 0},
		{"--since 2d --until 1d", 0},
	} {
		var log struct{ Entries []map[string]any }
		out := d.run("log --json " + tt.args)
		if err := json.Unmarshal([]byte(out), &log); err != nil || len(log.Entries) != tt.entries {
			t.Errorf("log %s: %v, want %d entries in %s", tt.args, err, tt.entries, out)
		}
	}
	d.says("log forget --before 1h", "removed 0 entries\n")
	d.says("log forget --before 0s", "removed 3 entries\n")
	d.says("log forget --before 0s", "removed 0 entries\n")
	d.fails("log forget", exit.Usage, `--before "": a time is missing; like 180d or 2026-01-31`)
	d.fails("log forget --before never", exit.Usage, `--before "never": not a time; 2026-01-31, "2026-01-31 15:04", RFC 3339, or how long ago, like 36h or 7d`)
}

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("", 3600)
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, zone)
	for _, tt := range []struct {
		text string
		want time.Time
	}{
		{"", time.Time{}},
		{"36h", now.Add(-36 * time.Hour)},
		{"7d", now.Add(-7 * 24 * time.Hour)},
		{"2026-02-01", time.Date(2026, 2, 1, 0, 0, 0, 0, zone)},
		{"2026-02-01 15:04", time.Date(2026, 2, 1, 15, 4, 0, 0, zone)},
		{"2026-02-01 15:04:05", time.Date(2026, 2, 1, 15, 4, 5, 0, zone)},
		{"2026-02-01T15:04:05Z", time.Date(2026, 2, 1, 15, 4, 5, 0, time.UTC)},
	} {
		if got, err := parseTime(tt.text, now); err != nil || !got.Equal(tt.want) {
			t.Errorf("%q: %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		before time.Duration
		want   string
	}{
		{-time.Second, "0s"}, {90*time.Second + time.Millisecond, "1m30s"}, {47 * time.Hour, "47h0m0s"}, {48 * time.Hour, "2d"}, {1000 * time.Hour, "41d"},
	} {
		if got := ago(now.Add(-tt.before), now); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.before, got, tt.want)
		}
	}
}

// TestTunnelUDP: a tunnel in UDP is listed with the client's port, and shown with the broker's
// end too, which one of protocol 41 has not.
func TestTunnelUDP(t *testing.T) {
	d, broker, alice, _ := busy(t)
	bob := d.user(broker, "bob")
	l, err := broker.Reserve(t.Context(), store.Want{UserID: bob.ID})
	if err == nil {
		_, err = broker.Activate(t.Context(), store.Activation{
			ID: l.ID, Epoch: l.Epoch, Node: "192.0.2.2", Type: tsp.V6UDPV4,
			Outer: netip.MustParseAddrPort("198.51.100.9:4711"), Local: netip.MustParseAddrPort("192.0.2.2:443"),
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	if out := d.run("tunnel list"); !strings.Contains(out, " 198.51.100.9:4711 ") {
		t.Errorf("list\n%s", out)
	}
	for id, want := range map[string]bool{l.ID: true, alice.ID: false} {
		out := d.run("tunnel show " + id + " --json")
		if strings.Contains(out, `"local": "192.0.2.2:443"`) != want || strings.Contains(out, `"local"`) != want {
			t.Errorf("%s\nwith the broker's end: want %t", out, want)
		}
	}
}
