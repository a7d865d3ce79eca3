package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sixin4/tsp/broker/store"
)

func TestTunnel(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.addUser("alice", nil)
	b := h.loggedIn("alice")
	page := b.get("/tunnel", http.StatusOK)
	h.has(page, "No address yet", "sixin4 connect --server broker.example.net --user alice", "hostname=alice")
	if strings.Contains(page, "ip tunnel add") {
		t.Error("kernel lines without an address")
	}
	b.post("/tunnel/reserve", nil, http.StatusSeeOther)
	h.has(b.get("/tunnel", http.StatusOK), "never used", "2001:db8:1000::2", "2001:db8:1001::/48")

	l := h.up(alice, "192.0.2.1")
	page = b.get("/tunnel", http.StatusOK)
	h.has(page,
		`badge good">up<`, "2001:db8:1000::2", "2001:db8:1000::1", "2001:db8:1001::/48", "192.0.2.1", "protocol 41",
		"1.2 MB, 1\u202f234 packets", "98.8 MB, 98\u202f765 packets", l.ID,
		"ip tunnel add sixin4 mode sit remote 192.0.2.2 local any ttl 64\n", "ip -6 address add 2001:db8:1000::2/128 dev sixin4\n",
		"ip -6 route add unreachable 2001:db8:1001::/48\n", "userid=alice\n", "prefixlen=48\n",
		"/etc/systemd/network/50-sixin4.netdev", "Remote=192.0.2.2\n", "Address=2001:db8:1000::2/128\n",
		"https://broker.example.net/nic/update?hostname="+l.ID)
	h.backend.live[l.ID] = Live{Outer: l.Outer, Since: time.Now()}
	h.has(b.get("/tunnel", http.StatusOK), "waiting for an answer")

	b.post("/tunnel/"+l.ID+"/drop", nil, http.StatusSeeOther)
	if got, err := h.store.Lease(t.Context(), l.ID); err != nil || got.State != store.Down || !slices.Equal(h.backend.ended, []string{l.ID}) {
		t.Errorf("%+v, %v, ended %v", got, err, h.backend.ended)
	}
	h.has(b.get("/tunnel?done=dropped", http.StatusOK), notices["dropped"], `badge off">down<`)
	h.has(b.get("/tunnel/"+l.ID+"/release", http.StatusOK), "cannot be undone", "2001:db8:1001::/48")
	b.post("/tunnel/"+l.ID+"/release", nil, http.StatusSeeOther)
	h.has(b.get("/tunnel", http.StatusOK), "No address yet")
}

// TestReleaseLimit: nobody uses up the pool by giving back again and again.
func TestReleaseLimit(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.addUser("alice", nil)
	b := h.loggedIn("alice")
	for range releaseRate.Burst {
		b.post("/tunnel/"+h.up(alice, "192.0.2.1").ID+"/release", nil, http.StatusSeeOther)
	}
	l := h.up(alice, "192.0.2.1")
	h.has(b.post("/tunnel/"+l.ID+"/release", nil, http.StatusTooManyRequests), "in an hour")
	if got, err := h.store.Lease(t.Context(), l.ID); err != nil || got.State != store.Up {
		t.Errorf("%+v, %v; want it up as before", got, err)
	}
}

// TestOddName: a name is text, wherever it stands.
func TestOddName(t *testing.T) {
	h := newHouse(t, nil)
	const name = `<b>"al' $(id)&`
	u := h.addUser(name, isOperator)
	h.up(u, "192.0.2.1")
	b := h.loggedIn(name)
	for _, path := range []string{"/tunnel", "/operator/users", "/operator/tunnels?q=" + url.QueryEscape(name), "/password"} {
		if w := b.get(path, http.StatusOK); strings.Contains(w, "name=\"q\" value=\"<b>\"") {
			t.Errorf("%s: %s", path, w)
		}
	}
	k := h.site.kit(u, store.Lease{})
	if want := `--user '<b>"al'\'' $(id)&' `; !strings.Contains(k[0].Files[0].Text, want) {
		t.Errorf("no %s in %s", want, k[0].Files[0].Text)
	}
}

func TestQuote(t *testing.T) {
	for text, want := range map[string]string{
		"alice": "alice", "": "''", "-rf": "'-rf'", "a b": "'a b'", "it's": `'it'\''s'`, "a@b.c:1": "a@b.c:1", "$x": "'$x'", "ü": "'ü'",
	} {
		if got := quote(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestFormat(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 1 << 63: "9.2 EB",
	} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for bits, want := range map[float64]string{
		0: "0 bit/s", 999: "999 bit/s", 1000: "1 kbit/s", 1500: "1.5 kbit/s", 999_900: "1 Mbit/s", 2e9: "2 Gbit/s",
	} {
		if got := formatRate(bits); got != want {
			t.Errorf("%v: %s, want %s", bits, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Hour: "0 s ago", 59 * time.Second: "59 s ago", time.Hour: "1 h ago", 49 * time.Hour: "2 days ago", 90 * time.Second: "1 min ago",
	} {
		if got := ago(time.Now().Add(-d)); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	if got := ago(time.Time{}); got != "never" {
		t.Error(got)
	}
}
