package web

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/internal/bucket"
)

// FuzzWeb sends whatever to a site with a user: no page fails, nobody is let in, and
// nothing changes.
func FuzzWeb(f *testing.F) {
	f.Add("GET", "/", "", "", "", "")
	f.Add("GET", "/welcome?secret=%00", "", "", "", "")
	f.Add("GET", "/tunnel/%2e%2e/release", "", "", "x=y", "127.0.0.1")
	f.Add("POST", "/login", "name=alice&password=x&token=TOKEN", "application/x-www-form-urlencoded", "", "")
	f.Add("POST", "/sign-up", "name=bob&email=bob@example.net&token=TOKEN", "application/x-www-form-urlencoded", "", "")
	f.Add("POST", "/sign-up", "name=b%ff%00b&token=TOKEN", "application/x-www-form-urlencoded", "", "")
	f.Add("POST", "/forgot", "who=%00alice&token=TOKEN", "application/x-www-form-urlencoded", "", "")
	f.Add("POST", "/reset", "secret=%ff&new=x&again=x&token=TOKEN", "application/x-www-form-urlencoded", "", "")
	f.Add("POST", "/login", "--x\r\n\r\n", "multipart/form-data; boundary=x", "", "")
	f.Add("POST", "/operator/users/x/remove", "token=TOKEN", "application/x-www-form-urlencoded", "", "")
	f.Add("GET", "/nic/update?hostname=alice&myip=::", "", "", "Basic YWxpY2U6eA==", "")
	f.Add("HEAD", "//x/../style.css?%zz", "", "", "Basic !", "::1, x")
	h := newHouse(f, nil)
	h.addUser("alice", nil)
	h.site.verifier = mustVerifier(f, h)
	f.Fuzz(func(t *testing.T, method, target, body, kind, auth, forwarded string) {
		request, err := http.NewRequest(method, "https://broker.example.net/", strings.NewReader(
			strings.ReplaceAll(body, "TOKEN", h.site.tokenOf("form"))))
		if err != nil {
			t.Skip()
		}
		u, err := request.URL.Parse(target)
		if err != nil {
			t.Skip()
		}
		request.URL, request.RemoteAddr = u, "127.0.0.1:1"
		request.Header.Set("Content-Type", kind)
		request.Header.Set("Authorization", auth)
		request.Header.Set("X-Forwarded-For", forwarded)
		request.AddCookie(&http.Cookie{Name: "__Host-" + formCookie, Value: "form"})
		request.AddCookie(&http.Cookie{Name: "__Host-" + sessionCookie, Value: forwarded})
		h.site.requests = bucket.New[netip.Addr](requestRate, 1)
		h.site.signups = bucket.New[netip.Addr](signupRate, 1)
		h.site.updates = bucket.New[netip.Addr](updateRate, 1)
		w := httptest.NewRecorder()
		h.site.ServeHTTP(w, request)
		if w.Code >= 500 {
			t.Errorf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
		for _, c := range w.Result().Cookies() {
			if strings.Contains(c.Name, sessionCookie) && c.MaxAge >= 0 {
				t.Errorf("%s %s: a session %v", method, target, c)
			}
		}
		if to := w.Header().Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//")) {
			t.Errorf("%s %s: sent to %s", method, target, to)
		}
		for v, err := range h.store.Signups(t.Context()) { // or there would be too many
			if err == nil {
				err = h.store.RemoveSignup(t.Context(), v.ID)
			}
			if err != nil {
				t.Error(err)
			}
		}
		if len(h.backend.moved)+len(h.backend.ended) > 0 || h.backend.draining || h.site.sessions.order.Len() > 0 {
			t.Errorf("%s %s has changed something", method, target)
		}
	})
}

// mustVerifier never says that there were too many attempts.
func mustVerifier(t testing.TB, h *house) *account.Verifier {
	v, err := account.New(account.Config{Accounts: accounts{h.store}, Limits: account.Limits{
		Iterations: testIterations,
		Failures:   account.Rate{PerSecond: 1e9, Burst: 1e9}, FailuresPerSource: account.Rate{PerSecond: 1e9, Burst: 1e9},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}
