package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

func TestLogin(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("alice", nil)
	h.addUser("disabled", func(u *store.User) { u.Disabled = true })
	h.addUser("modern", func(u *store.User) { u.Mechanisms = []string{sasl.ScramSHA256} })
	var answer string
	for _, tt := range []struct {
		user, password string
		in             bool
	}{
		{"alice", password, true}, {"modern", password, true},
		{"alice", "wrong", false}, {"alice", "", false}, {"bob", password, false}, {"disabled", password, false},
		{"", "", false}, {"", password, false}, {"alice\x00", password, false}, {"al\xffice", password, false},
		{"alice", password + "\x00", false},
	} {
		t.Run(tt.user+" "+tt.password, func(t *testing.T) {
			b := h.browser()
			form := url.Values{"name": {tt.user}, "password": {tt.password}}
			if tt.in {
				if to := b.post("/login", form, http.StatusSeeOther); to != "/tunnel" || b.session() == "" {
					t.Errorf("to %s, session %q", to, b.session())
				}
				return
			}
			page := b.post("/login", form, http.StatusUnauthorized)
			if b.session() != "" {
				t.Error("a session")
			}
			problem := problemIn(page)
			if answer == "" {
				answer = problem
			}
			if problem != answer || problem == "" {
				t.Errorf("%q, but others are told %q", problem, answer)
			}
		})
	}
}

// TestLoginByLink: a browser that has come by a link elsewhere keeps the session back,
// and sends it with the form.
func TestLoginByLink(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("alice", nil)
	b := h.loggedIn("alice")
	session := b.session()
	delete(b.cookies, "__Host-"+sessionCookie)
	token := b.token()
	b.cookies["__Host-"+sessionCookie] = session
	b.post("/tunnel/reserve", url.Values{"token": {token}}, http.StatusForbidden)
	b.post("/login", url.Values{"token": {token}, "name": {"alice"}, "password": {password}}, http.StatusSeeOther)
	if b.session() == session || h.site.sessions.find(session) != nil {
		t.Error("the session before goes on")
	}
}

func problemIn(page string) string {
	_, rest, _ := strings.Cut(page, `role="alert">`)
	text, _, _ := strings.Cut(rest, "<")
	return text
}

// TestLoginLimit: guesses run out, for those of one network.
func TestLoginLimit(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("alice", nil)
	b := h.browser()
	form := url.Values{"name": {"alice"}, "password": {"wrong"}}
	for range 10 {
		b.post("/login", form, http.StatusUnauthorized)
	}
	b.post("/login", form, http.StatusTooManyRequests)
	form.Set("password", password)
	b.post("/login", form, http.StatusTooManyRequests)
	other := h.browser()
	other.remote = "[::1]:1"
	other.post("/login", form, http.StatusSeeOther)
}

// TestSessionEnds: by logging out, another password, a disabled or removed user.
func TestSessionEnds(t *testing.T) {
	h := newHouse(t, nil)
	change := func(f func(*store.User)) func(store.User, *browser) {
		return func(u store.User, _ *browser) {
			if _, err := h.store.UpdateUser(t.Context(), u.ID, func(u *store.User) error { f(u); return nil }); err != nil {
				t.Error(err)
			}
		}
	}
	for name, end := range map[string]func(store.User, *browser){
		"log out":  func(_ store.User, b *browser) { b.post("/logout", nil, http.StatusSeeOther) },
		"disabled": change(func(u *store.User) { u.Disabled = true }),
		"password": change(func(u *store.User) { u.Scram.StoredKey = []byte("another") }),
		"removed": func(u store.User, _ *browser) {
			if err := h.store.RemoveUser(t.Context(), u.ID); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := h.addUser(name+"-user", nil)
			b := h.loggedIn(u.Name)
			stolen := b.session()
			b.get("/tunnel", http.StatusOK)
			end(u, b)
			b.cookies["__Host-"+sessionCookie] = stolen
			b.get("/tunnel", http.StatusSeeOther)
		})
	}
}

// TestSessionTimes: unused for long, or old.
func TestSessionTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSessions()
		idle, busy := s.begin(store.User{ID: "a"}), s.begin(store.User{ID: "b"})
		for passed := time.Duration(0); passed < sessionTime; passed += idleTime / 2 {
			if passed < sessionTime-idleTime/2 && s.find(busy) == nil {
				t.Fatalf("over after %v though it is used", passed)
			}
			<-time.After(idleTime / 2)
		}
		if s.find(busy) != nil || s.find(idle) != nil {
			t.Error("a session that lasts for ever")
		}
		if s.order.Len() != 0 || len(s.byKey) != 0 {
			t.Error("what is over is still known")
		}
	})
}

// TestManySessions: a user has so many, and all together so many.
func TestManySessions(t *testing.T) {
	s := newSessions()
	other := s.begin(store.User{ID: "other"})
	var cookies []string
	for range maxOfUser + 1 {
		cookies = append(cookies, s.begin(store.User{ID: "alice"}))
	}
	if s.find(cookies[0]) != nil || s.find(cookies[1]) == nil || s.find(other) == nil {
		t.Error("not the oldest of alice has gone")
	}
	for i := range maxSessions {
		s.begin(store.User{ID: string(rune('a' + i))})
	}
	if n := s.order.Len(); n != maxSessions || len(s.byKey) != n {
		t.Errorf("%d sessions", n)
	}
}

func TestPassword(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Realm = "example.net" })
	const fresh = "another-horse-battery"
	for _, legacy := range []bool{false, true} {
		name := map[bool]string{false: "modern", true: "legacy"}[legacy]
		t.Run(name, func(t *testing.T) {
			h.addUser(name, func(u *store.User) { u.Legacy = legacy })
			b, elsewhere := h.loggedIn(name), h.loggedIn(name)
			for _, tt := range []struct {
				old, new, again string
				status          int
				want            string
			}{
				{"wrong", fresh, fresh, 401, "old password is wrong"},
				{password, fresh, "x", 422, "not the same"},
				{password, "short", "short", 422, "fewer than 8"},
			} {
				h.has(b.post("/password", url.Values{"old": {tt.old}, "new": {tt.new}, "again": {tt.again}}, tt.status), tt.want)
			}
			b.post("/password", url.Values{"old": {password}, "new": {fresh}, "again": {fresh}}, http.StatusSeeOther)
			b.get("/tunnel", http.StatusOK)
			elsewhere.get("/tunnel", http.StatusSeeOther)
			u, err := h.store.UserByName(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if want := sasl.NewDigest(name, "example.net", fresh); legacy != (u.Digest != nil) || legacy && *u.Digest != want {
				t.Errorf("digest %v", u.Digest)
			}
			if _, err := h.site.check(t.Context(), visitor{}, name, fresh); err != nil {
				t.Error(err)
			}
		})
	}
}
