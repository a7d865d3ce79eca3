package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sixin4/tsp/broker/store"
)

// nic calls /nic/update from an address by TLS.
func (h *house) nic(from, query, user, password string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "https://broker.example.net/nic/update?"+query, nil)
	r.RemoteAddr = from + ":40000"
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	w := httptest.NewRecorder()
	h.site.ServeHTTP(w, r)
	return w
}

func TestUpdate(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.addUser("alice", nil)
	bob := h.addUser("bob", func(u *store.User) { u.MaxTunnels = 2 })
	h.addUser("new", nil)
	h.addUser("disabled", func(u *store.User) { u.Disabled = true })
	l, b1 := h.up(alice, "192.0.2.1"), h.up(bob, "192.0.2.11")
	b2 := h.up(bob, "192.0.2.12")
	for _, tt := range []struct {
		name, from, query, user, password string
		want, moved                       string
	}{
		{"no name", "192.0.2.1", "hostname=alice", "", "", "badauth", ""},
		{"wrong password", "192.0.2.1", "hostname=alice", "alice", "x", "badauth", ""},
		{"nobody", "192.0.2.1", "hostname=alice", "carol", password, "badauth", ""},
		{"disabled", "192.0.2.1", "hostname=disabled", "disabled", password, "badauth", ""},
		{"no host", "192.0.2.1", "", "alice", password, "nohost", ""},
		{"another host", "192.0.2.1", "hostname=x", "alice", password, "nohost", ""},
		{"host of another", "192.0.2.1", "hostname=" + b1.ID, "alice", password, "nohost", ""},
		{"same", "192.0.2.1", "hostname=" + l.ID, "alice", password, "nochg 192.0.2.1", ""},
		{"same, by name", "203.0.113.9", "hostname=alice&myip=192.0.2.1", "alice", password, "nochg 192.0.2.1", ""},
		{"name of two", "192.0.2.99", "hostname=bob", "bob", password, "nohost", ""},
		{"one of two", "192.0.2.99", "hostname=" + b2.ID, "bob", password, "good 192.0.2.99", bob.ID + " " + b2.ID + " 192.0.2.99"},
		{"source", "198.51.100.7", "hostname=alice", "alice", password, "good 198.51.100.7", alice.ID + " " + l.ID + " 198.51.100.7"},
		{"source by word", "198.51.100.8", "hostname=alice&myip=AUTO", "alice", password, "good 198.51.100.8", alice.ID + " " + l.ID + " 198.51.100.8"},
		{"first", "198.51.100.9", "hostname=new", "new", password, "good 198.51.100.9", "  198.51.100.9"},
		{"myip", "198.51.100.7", "hostname=alice&myip=203.0.113.5", "alice", password, "good 203.0.113.5", alice.ID + " " + l.ID + " 203.0.113.5"},
		{"myip rubbish", "198.51.100.7", "hostname=alice&myip=x", "alice", password, "badip", ""},
		{"myip IPv6", "198.51.100.7", "hostname=alice&myip=2001:db8::1", "alice", password, "badip", ""},
		{"source IPv6", "[2001:db8::1]", "hostname=alice", "alice", password, "badip", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.backend.moved = nil
			w := h.nic(tt.from, tt.query, tt.user, tt.password)
			if got := w.Body.String(); got != tt.want+"\n" {
				t.Errorf("%q, want %q", got, tt.want)
			}
			status := http.StatusOK
			if tt.want == answerBadAuth {
				status = http.StatusUnauthorized
			}
			if w.Code != status || (status == http.StatusUnauthorized) != (w.Header().Get("WWW-Authenticate") != "") {
				t.Errorf("%d, %v", w.Code, w.Header())
			}
			if got := strings.Join(h.backend.moved, "\n"); !strings.HasSuffix(got, tt.moved) || (got == "") != (tt.moved == "") {
				t.Errorf("moved %q, want %q", got, tt.moved)
			}
			if c := w.Header().Get("Set-Cookie"); c != "" {
				t.Errorf("cookie %s", c)
			}
		})
	}
}

// TestUpdateErrors: what the broker says of a move.
func TestUpdateErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{ErrAddress, "badip"}, {ErrTaken, "badip"}, {ErrDraining, "911"}, {store.ErrFull, "911"}, {store.ErrConflict, "911"},
		{store.ErrNotFound, "nohost"}, {store.ErrDisabled, "badauth"}, {errors.New("disk"), "911"},
	} {
		t.Run(tt.err.Error(), func(t *testing.T) {
			h := newHouse(t, nil)
			h.addUser("alice", nil)
			h.backend.moveErr = fmt.Errorf("move: %w", tt.err)
			if got := h.nic("192.0.2.1", "hostname=alice", "alice", password).Body.String(); got != tt.want+"\n" {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestUpdateAbuse: a client that moves all the time, and one that calls all the time.
func TestUpdateAbuse(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("alice", nil)
	for i := range moveRate.Burst {
		from := fmt.Sprintf("192.0.2.%d", 100+i)
		if got := h.nic(from, "hostname=alice", "alice", password).Body.String(); got != "good "+from+"\n" {
			t.Fatal(got)
		}
	}
	if got := h.nic("192.0.2.200", "hostname=alice", "alice", password).Body.String(); got != "abuse\n" {
		t.Error(got)
	}
	for range updateRate.Burst {
		h.nic("192.0.2.201", "", "", "")
	}
	if got := h.nic("192.0.2.201", "hostname=alice", "alice", password).Body.String(); got != "abuse\n" {
		t.Error(got)
	}
}

// TestUpdatePlain: a password that everybody on the way reads is not asked for.
func TestUpdatePlain(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("alice", nil)
	r := httptest.NewRequest("GET", "http://broker.example.net/nic/update?hostname=alice", nil)
	r.RemoteAddr = "192.0.2.1:40000"
	r.SetBasicAuth("alice", password)
	w := httptest.NewRecorder()
	if h.site.ServeHTTP(w, r); w.Code != http.StatusForbidden || len(h.backend.moved) != 0 {
		t.Errorf("%d, moved %v", w.Code, h.backend.moved)
	}
}

// TestUpdateOtherSite: a browser that keeps the password is not sent here by others.
func TestUpdateOtherSite(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("alice", nil)
	for site, want := range map[string]int{"cross-site": 403, "same-site": 403, "none": 200, "same-origin": 200} {
		r := httptest.NewRequest("GET", "https://broker.example.net/nic/update?hostname=alice", nil)
		r.RemoteAddr = "192.0.2.1:40000"
		r.Header.Set("Sec-Fetch-Site", site)
		r.SetBasicAuth("alice", password)
		w := httptest.NewRecorder()
		if h.site.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: %d, want %d", site, w.Code, want)
		}
	}
}
