package web

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sixin4/tsp/broker/store"
)

func TestOperator(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("root", isOperator)
	alice := h.addUser("alice", nil)
	l := h.up(alice, "192.0.2.1")
	b, hers := h.loggedIn("root"), h.loggedIn("alice")
	h.has(b.get("/operator/users", http.StatusOK), "alice", "root", "operator", "you")
	page := b.get("/operator/users?q=ALI", http.StatusOK)
	if h.has(page, `>alice</a>`); strings.Contains(page, `>root</a>`) {
		t.Error("found who was not looked for")
	}
	h.has(b.get("/operator/users?q=zzz", http.StatusOK), "Nobody.")
	for _, q := range []string{"", "alice", "2001:db8:1000::2", "2001:db8:1001:7::1", "2001:db8:1001::/48", "192.0.2.1", l.ID} {
		h.has(b.get("/operator/tunnels?q="+url.QueryEscape(q), http.StatusOK), "2001:db8:1000::2", "alice", "98.8 MB")
	}
	h.has(b.get("/operator/tunnels?q=zzz", http.StatusOK), "None.")

	b.post("/operator/tunnels/"+l.ID+"/drop", nil, http.StatusSeeOther)
	if got, err := h.store.Lease(t.Context(), l.ID); err != nil || got.State != store.Down || !slices.Equal(h.backend.ended, []string{l.ID}) {
		t.Errorf("%+v, %v, ended %v", got, err, h.backend.ended)
	}
	h.up(alice, "192.0.2.1")
	hers.get("/tunnel", http.StatusOK)
	b.post("/operator/users/"+alice.ID+"/disable", nil, http.StatusSeeOther)
	hers.get("/tunnel", http.StatusSeeOther)
	if _, ok := h.backend.Live(l.ID); ok {
		t.Error("the tunnel of a disabled user is carried")
	}
	h.has(b.get("/operator/users?done=disabled", http.StatusOK), notices["disabled"], "Enable")
	b.post("/operator/users/"+alice.ID+"/enable", nil, http.StatusSeeOther)
	h.loggedIn("alice")

	h.has(b.get("/operator/users/"+alice.ID+"/remove", http.StatusOK), "Remove alice?", "2001:db8:1001::/48")
	b.post("/operator/users/"+alice.ID+"/remove", nil, http.StatusSeeOther)
	b.post("/operator/users/"+alice.ID+"/remove", nil, http.StatusNotFound)
	if _, err := h.store.User(t.Context(), alice.ID); err == nil {
		t.Error("alice is still there")
	}
	h.has(b.get("/operator/tunnels", http.StatusOK), "given back", "nobody")
}

func TestDrain(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("root", isOperator)
	b := h.loggedIn("root")
	for _, on := range []string{"true", "false"} {
		to := b.post("/operator/drain", url.Values{"on": {on}}, http.StatusSeeOther)
		if h.backend.Draining() != (on == "true") {
			t.Errorf("draining: %v after on=%s", h.backend.Draining(), on)
		}
		h.has(b.get(to, http.StatusOK), map[string]string{"true": "Give new tunnels again", "false": "Give no new tunnels"}[on])
	}
}

// TestMore goes through the pages of a long list.
func TestMore(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("root", isOperator)
	for i := range 2*pageSize + 3 {
		if _, err := h.store.AddUser(t.Context(), store.User{Name: fmt.Sprintf("user %03d&", i)}); err != nil {
			t.Fatal(err)
		}
	}
	b, path, seen := h.loggedIn("root"), "/operator/users?q=user", 0
	for range 3 {
		page := b.get(path, http.StatusOK)
		seen += strings.Count(page, `<th scope="row">`)
		_, rest, more := strings.Cut(page, `class="button quiet" href="`)
		if !more {
			break
		}
		path, _, _ = strings.Cut(rest, `"`)
	}
	if seen != 2*pageSize+3 {
		t.Errorf("%d users on three pages", seen)
	}
}

// TestMoreRequests goes through the pages of those who wait, first who has opened the
// link.
func TestMoreRequests(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("root", isOperator)
	const all = 2*pageSize + 3
	for i := range all {
		v, err := h.store.AddSignup(t.Context(), store.Signup{
			Name: fmt.Sprintf("user%03d", i), Token: hashSecret(fmt.Sprint(i)), Expires: time.Now().Add(time.Hour),
		})
		if err == nil && i == all-1 {
			err = h.store.OpenSignup(t.Context(), v.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b, path := h.loggedIn("root"), "/operator/requests"
	name := regexp.MustCompile(`<th scope="row">(user\d+)`)
	seen := make(map[string]bool)
	for i := range 3 {
		page := b.get(path, http.StatusOK)
		names := name.FindAllStringSubmatch(page, -1)
		if i == 0 && names[0][1] != fmt.Sprintf("user%03d", all-1) {
			t.Errorf("first comes %s", names[0][1])
		}
		for _, n := range names {
			seen[n[1]] = true
		}
		_, rest, _ := strings.Cut(page, `class="button quiet" href="`)
		path, _, _ = strings.Cut(rest, `"`)
	}
	if len(seen) != all || path != "" {
		t.Errorf("%d requests on three pages, then %q", len(seen), path)
	}
	if page := b.get("/operator/requests?q=R007", http.StatusOK); strings.Count(page, `<th scope="row">`) != 1 {
		t.Errorf("found %s", page)
	}
}

func TestGraph(t *testing.T) {
	var tr traffic
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	if g := tr.graph(now); g.Up != "" || g.UpNow != "0 bit/s" || g.Rows[0].Label != "1 kbit/s" {
		t.Errorf("of nothing: %+v", g)
	}
	for i := range maxSamples + 10 {
		up := uint64(i) * 625_000 // 1 Mbit/s
		tr.add(sample{now.Add(time.Duration(i-maxSamples-9) * sampleTime), up, 2 * up})
	}
	tr.add(sample{now, 0, 0}) // the broker has started anew
	g := tr.graph(now)
	if g.UpNow != "1 Mbit/s" || g.DownTop != "2 Mbit/s" || g.Rows[0].Label != "2 Mbit/s" || g.Rows[2].Label != "1 Mbit/s" {
		t.Errorf("%+v", g)
	}
	points := strings.Fields(g.Up)
	if len(points) != maxSamples-2 || points[0] != "4.0,110.0" || points[len(points)-1] != "720.0,110.0" || !strings.HasPrefix(g.Down, "4.0,0.0 ") {
		t.Errorf("%d points from %s to %s, %s", len(points), points[0], points[len(points)-1], g.Down[:20])
	}
	if len(tr.samples) != maxSamples {
		t.Errorf("%d samples", len(tr.samples))
	}
}

// TestOverview: the page is loaded again, and has the picture and a text for who does
// not see it.
func TestOverview(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("root", isOperator)
	h.backend.totals = Totals{Tunnels: 7, Up: Count{1, 1500}, Down: Count{2, 2500}, Dropped: 12_345}
	b := h.loggedIn("root")
	now := time.Now()
	h.site.traffic.add(sample{now.Add(-10 * time.Second), 0, 0})
	h.site.traffic.add(sample{now, 1_250_000, 2_500_000})
	h.has(b.get("/operator", http.StatusOK), `content="5"`, "<polyline", "From clients 1 Mbit/s now", "12\u202f345", "2001:db8:1000::/36", "/48")
	if page := b.get("/operator?still", http.StatusOK); strings.Contains(page, `http-equiv="refresh"`) {
		t.Error("it does not hold still")
	}
}
