package web

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"sixin4/tsp/broker/internal/bucket"
	"sixin4/tsp/broker/store"
)

// TestPages asks for every page as each kind of visitor.
func TestPages(t *testing.T) {
	h := newHouse(t, nil)
	alice, root := h.addUser("alice", nil), h.addUser("root", isOperator)
	l := h.up(alice, "192.0.2.1")
	visitors := map[string]*browser{"nobody": h.browser(), "alice": h.loggedIn("alice"), "root": h.loggedIn("root")}
	const login = http.StatusSeeOther
	for _, tt := range []struct {
		path                string
		nobody, alice, root int
	}{
		{"/", 200, 200, 200},
		{"/style.css", 200, 200, 200},
		{"/sign-up", 200, 200, 200},
		{"/login", 200, login, login},
		{"/welcome", 404, 404, 404},
		{"/welcome?secret=x", 404, 404, 404},
		{"/tunnel", login, 200, 200},
		{"/tunnel?done=dropped", login, 200, 200},
		{"/tunnel/" + l.ID + "/release", login, 200, 404},
		{"/tunnel/x/release", login, 404, 404},
		{"/password", login, 200, 200},
		{"/operator", login, 404, 200},
		{"/operator?still", login, 404, 200},
		{"/operator/users", login, 404, 200},
		{"/operator/users?q=ali", login, 404, 200},
		{"/operator/users/" + alice.ID + "/remove", login, 404, 200},
		{"/operator/users/" + root.ID + "/remove", login, 404, 403},
		{"/operator/users/x/remove", login, 404, 404},
		{"/operator/requests", login, 404, 200},
		{"/operator/tunnels", login, 404, 200},
		{"/operator/tunnels?q=%ff&after=%00", login, 404, 200},
		{"/nic/update", 401, 401, 401},
		{"/nothing", 404, 404, 404},
		{"/login/", 404, 404, 404},
	} {
		for name, want := range map[string]int{"nobody": tt.nobody, "alice": tt.alice, "root": tt.root} {
			t.Run(name+" "+tt.path, func(t *testing.T) {
				w := visitors[name].do(httptest.NewRequest("GET", tt.path, nil))
				if w.Code != want {
					t.Errorf("%d, want %d: %s", w.Code, want, w.Body)
				}
				checkHeaders(t, tt.path, w.Header())
				if w.Code != http.StatusSeeOther && strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
					checkPage(t, w.Body.String())
				}
			})
		}
	}
}

// checkHeaders wants what every answer has.
func checkHeaders(t *testing.T, path string, got http.Header) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Security-Policy": policy, "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
		"Referrer-Policy": "same-origin", "Strict-Transport-Security": "max-age=31536000", "Cache-Control": "no-store",
	} {
		if got.Get(name) != want {
			t.Errorf("%s of %s is %q, want %q", name, path, got.Get(name), want)
		}
	}
	for _, c := range got.Values("Set-Cookie") {
		for _, want := range []string{"__Host-", "Secure", "HttpOnly", "SameSite=Strict", "Path=/"} {
			if !strings.Contains(c, want) {
				t.Errorf("cookie %s has no %s", c, want)
			}
		}
	}
}

// checkPage wants what every page has, and nothing that the policy forbids.
func checkPage(t *testing.T, page string) {
	t.Helper()
	for _, want := range []string{`<html lang="en">`, `name="viewport"`, `class="skip"`, `<main id="main"`, "<h1>", "<title>"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in %s", want, page)
		}
	}
	for _, forbidden := range []string{"<script", "style=", "onclick", "<no value>", "ZgotmplZ"} {
		if strings.Contains(page, forbidden) {
			t.Errorf("%s in %s", forbidden, page)
		}
	}
	for _, id := range inputs.FindAllStringSubmatch(page, -1) {
		if !strings.Contains(page, `<label for="`+id[1]+`"`) {
			t.Errorf("no label for %s", id[1])
		}
	}
}

var inputs = regexp.MustCompile(`<input id="([^"]+)"`)

// TestPosts sends every form as those who may not, without a token, and from another
// site: nothing changes.
func TestPosts(t *testing.T) {
	h := newHouse(t, nil)
	alice, root := h.addUser("alice", nil), h.addUser("root", isOperator)
	h.addUser("mallory", nil)
	l := h.up(alice, "192.0.2.1")
	signup, err := h.store.AddSignup(t.Context(), store.Signup{Name: "bob", Token: make([]byte, 32), Expires: l.Created.AddDate(1, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	nobody, mallory, operator := h.browser(), h.loggedIn("mallory"), h.loggedIn("root")
	for _, tt := range []struct {
		path                      string
		nobody, mallory, operator int // with a good token
	}{
		{"/login", 401, 401, 401},
		{"/welcome", 404, 404, 404},
		{"/sign-up", 422, 422, 422},
		{"/tunnel/" + l.ID + "/drop", 303, 404, 404},
		{"/tunnel/" + l.ID + "/release", 303, 404, 404},
		{"/password", 303, 401, 401},
		{"/operator/users/" + alice.ID + "/disable", 303, 404, 0},
		{"/operator/users/" + alice.ID + "/enable", 303, 404, 0},
		{"/operator/users/" + alice.ID + "/remove", 303, 404, 0},
		{"/operator/users/" + root.ID + "/disable", 303, 404, 403},
		{"/operator/users/" + root.ID + "/remove", 303, 404, 403},
		{"/operator/users/x/disable", 303, 404, 404},
		{"/operator/users/x/remove", 303, 404, 404},
		{"/operator/requests/" + signup.ID + "/approve", 303, 404, 0},
		{"/operator/requests/" + signup.ID + "/reject", 303, 404, 0},
		{"/operator/requests/x/approve", 303, 404, 404},
		{"/operator/requests/x/reject", 303, 404, 404},
		{"/operator/tunnels/" + l.ID + "/drop", 303, 404, 0},
		{"/operator/tunnels/x/drop", 303, 404, 404},
		{"/operator/drain", 303, 404, 0},
	} {
		t.Run(tt.path, func(t *testing.T) {
			h.site.requests = bucket.New[netip.Addr](requestRate, 1)
			for _, v := range []struct {
				b    *browser
				want int
			}{{nobody, tt.nobody}, {mallory, tt.mallory}, {operator, tt.operator}} {
				if v.want != 0 {
					v.b.post(tt.path, nil, v.want)
				}
			}
			for _, token := range []string{"", "x", nobody.token(), mallory.token()} {
				w := operator.send(tt.path, url.Values{"token": {token}})
				if w.Code != http.StatusForbidden {
					t.Errorf("token %q: %d", token, w.Code)
				}
			}
			r := httptest.NewRequest("POST", tt.path, strings.NewReader("token="+operator.token()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			if w := operator.do(r); w.Code != http.StatusForbidden {
				t.Errorf("from another site: %d", w.Code)
			}
		})
	}
	if _, ok := h.backend.Live(l.ID); !ok || h.backend.Draining() || len(h.backend.ended) != 0 {
		t.Error("something was changed in the broker")
	}
	for _, want := range []store.User{alice, root} {
		if u, err := h.store.User(t.Context(), want.ID); err != nil || u.Disabled {
			t.Errorf("%s is %+v, %v", want.Name, u, err)
		}
	}
	if _, err := h.store.SignupByToken(t.Context(), signup.Token); err != nil {
		t.Error(err)
	}
}

// TestVisitor: who is believed to be where.
func TestVisitor(t *testing.T) {
	h := newHouse(t, func(c *Config) {
		c.Proxies = []netip.Addr{netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("127.0.0.1")}
	})
	for _, tt := range []struct {
		name, remote, forwarded, proto string
		want                           string
		private                        bool
	}{
		{"stranger without TLS", "203.0.113.9:1", "", "", "203.0.113.9", false},
		{"stranger who lies", "203.0.113.9:1", "127.0.0.1", "https", "203.0.113.9", false},
		{"this host", "[::1]:1", "", "", "::1", true},
		{"mapped", "[::ffff:203.0.113.9]:1", "", "", "203.0.113.9", false},
		{"proxy", "192.0.2.80:1", "203.0.113.9", "https", "203.0.113.9", true},
		{"proxy without a word", "192.0.2.80:1", "", "", "192.0.2.80", false},
		{"this host past its proxy", "127.0.0.1:1", "", "", "127.0.0.1", true},
		{"proxy that does not say how", "192.0.2.80:1", "203.0.113.9", "", "203.0.113.9", false},
		{"proxy of this host that does not say how", "127.0.0.1:1", "203.0.113.9", "", "203.0.113.9", false},
		{"by http to the first of two proxies", "127.0.0.1:1", "203.0.113.9, 192.0.2.80", "http, https", "203.0.113.9", false},
		{"proxy that was asked by http", "192.0.2.80:1", "203.0.113.9", "http", "203.0.113.9", false},
		{"two proxies", "127.0.0.1:1", "198.51.100.7, 203.0.113.9, 192.0.2.80", "https", "203.0.113.9", true},
		{"proxy with rubbish", "127.0.0.1:1", "203.0.113.9, x", "https", "127.0.0.1", true},
		{"no address", "pipe", "", "", "invalid IP", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "http://broker.example.net/", nil)
			r.RemoteAddr = tt.remote
			if tt.forwarded != "" {
				r.Header.Set("X-Forwarded-For", tt.forwarded)
			}
			r.Header.Set("X-Forwarded-Proto", tt.proto)
			if v := h.site.visitor(r); v.addr.String() != tt.want || v.private != tt.private {
				t.Errorf("%+v, want %s, private %v", v, tt.want, tt.private)
			}
			w := httptest.NewRecorder()
			h.site.ServeHTTP(w, r)
			if want := map[bool]int{true: 200, false: 403}[tt.private]; w.Code != want {
				t.Errorf("%d, want %d", w.Code, want)
			}
		})
	}
}

func TestTooManyRequests(t *testing.T) {
	h := newHouse(t, nil)
	b := h.browser()
	for range requestRate.Burst {
		b.get("/style.css", http.StatusOK)
	}
	w := b.do(httptest.NewRequest("GET", "/", nil))
	for more := requestRate.Burst; w.Code == http.StatusOK && more > 0; more-- { // those that became free meanwhile
		w = b.do(httptest.NewRequest("GET", "/", nil))
	}
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d, %v", w.Code, w.Header())
	}
	other := h.browser()
	other.remote = "[::1]:1"
	other.get("/", http.StatusOK)
}

func TestLargeBody(t *testing.T) {
	b := newHouse(t, nil).browser()
	b.post("/login", url.Values{"name": {strings.Repeat("x", maxBody)}}, http.StatusBadRequest)
}

func TestPanic(t *testing.T) {
	h := newHouse(t, nil)
	handler, err := h.site.guarded(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") }))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "127.0.0.1:1"
	handler.ServeHTTP(w, r)
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "oops") {
		t.Errorf("%d, %s", w.Code, w.Body)
	}
}

func TestBadConfig(t *testing.T) {
	h := newHouse(t, nil)
	for name, change := range map[string]func(*Config){
		"no store":       func(c *Config) { c.Store = nil },
		"no backend":     func(c *Config) { c.Backend = nil },
		"no mailer":      func(c *Config) { c.SignUp = Mail },
		"unknown mode":   func(c *Config) { c.SignUp = "x" },
		"prefix length":  func(c *Config) { c.PrefixLen = 65 },
		"URL of a path":  func(c *Config) { c.URL = &url.URL{Scheme: "https", Host: "x", Path: "/x"} },
		"URL of ftp":     func(c *Config) { c.URL = &url.URL{Scheme: "ftp", Host: "x"} },
		"few iterations": func(c *Config) { c.Iterations = 1 },
		"bad realm":      func(c *Config) { c.Realm = `"` },
	} {
		c := h.site.config
		change(&c)
		if s, err := New(c); err == nil || s != nil || !strings.HasPrefix(err.Error(), "web: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBrokenStore: a page that cannot be made says so, and nothing of why.
func TestBrokenStore(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("root", isOperator)
	b := h.loggedIn("root")
	h.site.config.Store = brokenStore{h.store}
	for _, path := range []string{"/tunnel", "/operator/users", "/operator/tunnels", "/operator/requests"} {
		if page := b.get(path, http.StatusInternalServerError); strings.Contains(page, errDisk.Error()) {
			t.Error(page)
		}
	}
}

var errDisk = errors.New("disk I/O error")

// brokenStore finds users and nothing else.
type brokenStore struct{ store.Store }

func (brokenStore) LeasesOf(context.Context, string) ([]store.Lease, error) { return nil, errDisk }
func (brokenStore) FindLeases(context.Context, store.Find) ([]store.Lease, error) {
	return nil, errDisk
}
func (brokenStore) FindUsers(context.Context, store.Find) ([]store.User, error) { return nil, errDisk }
func (brokenStore) FindSignups(context.Context, store.Find) ([]store.Signup, error) {
	return nil, errDisk
}

// noUsers has nobody in it.
type noUsers struct{ store.Store }

func (noUsers) UserByEmail(context.Context, string) (store.User, error) {
	return store.User{}, store.ErrNotFound
}
func (noUsers) UserByName(context.Context, string) (store.User, error) {
	return store.User{}, store.ErrNotFound
}
