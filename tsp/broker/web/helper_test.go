package web

import (
	"context"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sixin4/tsp"
	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testIterations = 4096
	password       = "correct-horse-battery"
)

// backend is a broker in memory.
type backend struct {
	mu       sync.Mutex
	live     map[string]Live
	totals   Totals
	draining bool
	ended    []string
	moved    []string
	moveErr  error
}

func (b *backend) Live(id string) (Live, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.live[id]
	return l, ok
}

func (b *backend) Totals() Totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.totals
}

func (b *backend) Move(_ context.Context, userID, leaseID string, to netip.Addr) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.moveErr == nil {
		b.moved = append(b.moved, fmt.Sprintf("%s %s %s", userID, leaseID, to))
		b.live[leaseID] = Live{Outer: netip.AddrPortFrom(to, 0)}
	}
	return b.moveErr
}

func (b *backend) Ended(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.live, id)
	b.ended = append(b.ended, id)
}

func (b *backend) Draining() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.draining }
func (b *backend) Drain(on bool)  { b.mu.Lock(); defer b.mu.Unlock(); b.draining = on }

// house is a site with its store and backend.
type house struct {
	t       testing.TB
	site    *Site
	store   store.Store
	backend *backend
}

// newHouse makes a site where the operator approves; change changes what is different.
func newHouse(t testing.TB, change func(*Config)) *house {
	t.Helper()
	key, err := store.NewKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), sqlite.Config{
		Path:   filepath.Join(t.TempDir(), "tspd.db"),
		Config: store.Config{Pool: netip.MustParsePrefix("2001:db8:1000::/36"), Key: key},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &house{t: t, store: db, backend: &backend{live: make(map[string]Live)}}
	c := Config{
		Store: db, Backend: h.backend, URL: &url.URL{Scheme: "https", Host: "broker.example.net"},
		Server: "broker.example.net", End: netip.MustParseAddr("192.0.2.2"),
		SignUp: Approve, PrefixLen: 64, Iterations: testIterations,
	}
	if change != nil {
		change(&c)
	}
	if h.site, err = New(c); err != nil {
		t.Fatal(err)
	}
	return h
}

// addUser adds a user with the usual password.
func (h *house) addUser(name string, change func(*store.User)) store.User {
	h.t.Helper()
	keys, err := account.HashPassword(name, password, testIterations)
	if err != nil {
		h.t.Fatal(err)
	}
	u := store.User{Name: name, Scram: keys, PrefixLen: 48, MaxTunnels: 1}
	if change != nil {
		change(&u)
	}
	if u, err = h.store.AddUser(h.t.Context(), u); err != nil {
		h.t.Fatal(err)
	}
	return u
}

func isOperator(u *store.User) { u.Operator = true }

// up gives a user a tunnel that is carried.
func (h *house) up(u store.User, from string) store.Lease {
	h.t.Helper()
	outer := netip.AddrPortFrom(netip.MustParseAddr(from), 0)
	l, err := h.store.Reserve(h.t.Context(), store.Want{UserID: u.ID, PrefixLen: u.PrefixLen, From: outer})
	if err == nil {
		l, err = h.store.Activate(h.t.Context(), store.Activation{ID: l.ID, Epoch: l.Epoch, Node: "n", Type: tsp.V6V4, Outer: outer})
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.backend.mu.Lock()
	defer h.backend.mu.Unlock()
	h.backend.live[l.ID] = Live{
		Outer: outer, Proven: true, Since: l.LastSeen, Heard: time.Now(), Up: Count{1234, 1_234_567}, Down: Count{98765, 98_765_432},
	}
	return l
}

// browser keeps cookies.
type browser struct {
	h       *house
	cookies map[string]string
	remote  string
}

func (h *house) browser() *browser {
	return &browser{h: h, cookies: make(map[string]string), remote: "127.0.0.1:40000"}
}

// loggedIn is a browser of a user.
func (h *house) loggedIn(name string) *browser {
	h.t.Helper()
	b := h.browser()
	b.get("/login", http.StatusOK)
	b.post("/login", url.Values{"name": {name}, "password": {password}}, http.StatusSeeOther)
	return b
}

func (b *browser) do(r *http.Request) *httptest.ResponseRecorder {
	r.RemoteAddr = b.remote
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.h.site.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return w
}

// get wants a page with a status.
func (b *browser) get(path string, status int) string {
	b.h.t.Helper()
	return b.want(b.do(httptest.NewRequest("GET", path, nil)), "GET "+path, status)
}

// post sends a form with the token that this browser's forms have, unless there is
// one in it.
func (b *browser) post(path string, form url.Values, status int) string {
	b.h.t.Helper()
	return b.want(b.send(path, form), "POST "+path, status)
}

func (b *browser) send(path string, form url.Values) *httptest.ResponseRecorder {
	form = maps.Clone(form)
	if form == nil {
		form = url.Values{}
	}
	if !form.Has("token") {
		form.Set("token", b.token())
	}
	r := httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.do(r)
}

var tokenField = regexp.MustCompile(`name="token" value="([0-9a-f]+)"`)

// token is that of the form on the login page, or of the log-out button for who has
// logged in.
func (b *browser) token() string {
	b.h.t.Helper()
	w := b.do(httptest.NewRequest("GET", "/sign-up", nil))
	m := tokenField.FindStringSubmatch(w.Body.String())
	if m == nil {
		b.h.t.Fatalf("no token: %d %s", w.Code, w.Body)
	}
	return m[1]
}

func (b *browser) want(w *httptest.ResponseRecorder, what string, status int) string {
	b.h.t.Helper()
	if w.Code != status {
		b.h.t.Fatalf("%s: %d, want %d: %s", what, w.Code, status, w.Body)
	}
	if status == http.StatusSeeOther {
		return w.Header().Get("Location")
	}
	return html.UnescapeString(w.Body.String())
}

// has wants texts on a page.
func (h *house) has(page string, texts ...string) {
	h.t.Helper()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			h.t.Errorf("the page has no %q:\n%s", text, page)
		}
	}
}

// session is the cookie of a session, empty for none.
func (b *browser) session() string { return b.cookies["__Host-"+sessionCookie] }
