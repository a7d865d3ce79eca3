package web

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/internal/bucket"
	"sixin4/tsp/broker/store"
)

// Site is the pages of one broker. Any number of goroutines may use it.
type Site struct {
	config   Config
	secure   bool   // people come by https
	key      []byte // of the tokens in forms
	pages    pages
	verifier *account.Verifier
	sessions *sessions
	traffic  traffic
	letters  chan letter
	handler  http.Handler

	requests *bucket.Table[netip.Addr] // of one source
	signups  *bucket.Table[netip.Addr]
	mails    *bucket.Table[string] // to one e-mail
	forgots  *bucket.Table[netip.Addr]
	resets   *bucket.Table[string] // mails to one user
	updates  *bucket.Table[netip.Addr]
	moves    *bucket.Table[string] // of one user's tunnels
	releases *bucket.Table[string] // of what one user had
}

// How often things may happen. A source is an IPv4 address or an IPv6 /64; of those who
// sign up it is a /48, as one person may have so much. What a user has given back is
// nobody's for days, so that a pool could be used up by it.
var (
	requestRate = bucket.Rate{PerSecond: 10, Burst: 200}
	signupRate  = bucket.Rate{PerSecond: 1. / 600, Burst: 5}
	mailRate    = bucket.Rate{PerSecond: 1. / 3600, Burst: 3}
	updateRate  = bucket.Rate{PerSecond: 1. / 5, Burst: 30}
	moveRate    = bucket.Rate{PerSecond: 1. / 60, Burst: 10}
	releaseRate = bucket.Rate{PerSecond: 1. / 3600, Burst: 5}
)

const (
	remembered = 65536 // keys of each limit
	maxBody    = 16 << 10
)

// New checks the configuration; it starts nothing.
func New(c Config) (*Site, error) {
	c, err := c.checked()
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	s := &Site{
		config: c, secure: c.URL.Scheme == "https", key: make([]byte, 32), sessions: newSessions(),
		letters:  make(chan letter, maxLetters),
		requests: bucket.New[netip.Addr](requestRate, remembered),
		signups:  bucket.New[netip.Addr](signupRate, remembered),
		mails:    bucket.New[string](mailRate, remembered),
		forgots:  bucket.New[netip.Addr](signupRate, remembered),
		resets:   bucket.New[string](mailRate, remembered),
		updates:  bucket.New[netip.Addr](updateRate, remembered),
		moves:    bucket.New[string](moveRate, remembered),
		releases: bucket.New[string](releaseRate, remembered),
	}
	_, _ = rand.Read(s.key) // never fails
	if s.pages, err = readPages(); err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	s.verifier, err = account.New(account.Config{
		Accounts: accounts{c.Store}, Realm: c.Realm, Secret: c.Secret,
		Failures: c.Failures, Limits: account.Limits{Iterations: c.Iterations},
	})
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	s.handler, err = s.guarded(s.routes())
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	return s, nil
}

// routes are all pages. Who may see one is said by what is around its function.
func (s *Site) routes() *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", s.home)
	m.HandleFunc("GET /style.css", s.style)
	m.HandleFunc("GET /nic/update", s.update)
	m.HandleFunc("GET /sign-up", s.signUpForm)
	m.HandleFunc("POST /sign-up", s.posted(s.signUp))
	m.HandleFunc("GET /welcome", s.welcomeForm)
	m.HandleFunc("POST /welcome", s.posted(s.welcome))
	m.HandleFunc("GET /login", s.loginForm)
	m.HandleFunc("POST /login", s.posted(s.login))
	m.HandleFunc("POST /logout", s.posted(s.logout))
	m.HandleFunc("GET /forgot", s.forgotForm)
	m.HandleFunc("POST /forgot", s.posted(s.forgot))
	m.HandleFunc("GET /reset", s.resetForm)
	m.HandleFunc("POST /reset", s.posted(s.reset))

	m.HandleFunc("GET /tunnel", s.user(s.tunnel))
	m.HandleFunc("POST /tunnel/reserve", s.user(s.posted(s.reserve)))
	m.HandleFunc("POST /tunnel/{id}/drop", s.user(s.posted(s.drop)))
	m.HandleFunc("GET /tunnel/{id}/release", s.user(s.releaseForm))
	m.HandleFunc("POST /tunnel/{id}/release", s.user(s.posted(s.release)))
	m.HandleFunc("GET /password", s.user(s.passwordForm))
	m.HandleFunc("POST /password", s.user(s.posted(s.password)))

	m.HandleFunc("GET /operator", s.operator(s.overview))
	m.HandleFunc("POST /operator/drain", s.operator(s.posted(s.drain)))
	m.HandleFunc("GET /operator/users", s.operator(s.users))
	m.HandleFunc("POST /operator/users/{id}/disable", s.operator(s.posted(s.disable)))
	m.HandleFunc("POST /operator/users/{id}/enable", s.operator(s.posted(s.enable)))
	m.HandleFunc("GET /operator/users/{id}/remove", s.operator(s.removeForm))
	m.HandleFunc("POST /operator/users/{id}/remove", s.operator(s.posted(s.remove)))
	m.HandleFunc("GET /operator/requests", s.operator(s.requestList))
	m.HandleFunc("POST /operator/requests/{id}/approve", s.operator(s.posted(s.approve)))
	m.HandleFunc("POST /operator/requests/{id}/reject", s.operator(s.posted(s.reject)))
	m.HandleFunc("GET /operator/tunnels", s.operator(s.tunnels))
	m.HandleFunc("POST /operator/tunnels/{id}/drop", s.operator(s.posted(s.dropAny)))
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, http.StatusNotFound, notFoundText) })
	return m
}

// ServeHTTP answers one request.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// policy lets a page have our style sheet and send forms to us, and nothing else.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guarded is what every request goes through.
func (s *Site) guarded(next http.Handler) (http.Handler, error) {
	origins := http.NewCrossOriginProtection()
	if err := origins.AddTrustedOrigin(s.config.URL.Scheme + "://" + s.config.URL.Host); err != nil {
		return nil, err
	}
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, http.StatusForbidden, "This request comes from another site.")
	}))
	next = origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.survive(w, r)
		s.headers(w.Header())
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		v := s.visitor(r)
		switch {
		case !v.private:
			s.fail(w, r, http.StatusForbidden, "These pages are here by https only, as passwords go through them.")
		case !s.requests.Take(time.Now(), v.source):
			s.tooMany(w, r)
		default:
			next.ServeHTTP(w, r.WithContext(withVisitor(r.Context(), v)))
		}
	}), nil
}

func (s *Site) headers(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if s.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// survive answers a request that made a page panic: nobody else shall notice.
func (s *Site) survive(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	s.config.Logger.Error("a page failed", "path", r.URL.Path, "error", v, "stack", string(debug.Stack()))
	s.fail(w, r, http.StatusInternalServerError, ownFaultText)
}

// visitor is who asks, as far as the connection tells.
type visitor struct {
	addr    netip.Addr // of the client, behind proxies
	source  netip.Addr // by which it is counted
	private bool       // nobody on the way reads along
}

// visitor looks through proxies that are trusted. Each adds who it heard to the end of
// X-Forwarded-For, so the last one that is no proxy is the client.
func (s *Site) visitor(r *http.Request) visitor {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return visitor{}
	}
	peer := at.Addr().Unmap().WithZone("")
	v := visitor{addr: peer, private: r.TLS != nil || peer.IsLoopback()}
	if s.isProxy(peer) {
		heard := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		v.private = r.TLS != nil || s.isByTLS(r, peer)
		for _, text := range slices.Backward(heard) {
			a, err := netip.ParseAddr(strings.TrimSpace(text))
			if err != nil {
				break
			}
			if v.addr = a.Unmap().WithZone(""); !s.isProxy(v.addr) {
				break
			}
		}
	}
	v.source = account.SourceOf(v.addr)
	return v
}

// isByTLS reports whether a proxy says that its client came by TLS. Without a word of
// either it is this host that asks, past the proxy.
func (s *Site) isByTLS(r *http.Request, peer netip.Addr) bool {
	proto := strings.Join(r.Header.Values("X-Forwarded-Proto"), ",")
	if proto == "" && r.Header.Get("X-Forwarded-For") == "" {
		return peer.IsLoopback()
	}
	return !slices.ContainsFunc(strings.Split(proto, ","), func(one string) bool {
		return !strings.EqualFold(strings.TrimSpace(one), "https")
	})
}

func (s *Site) isProxy(a netip.Addr) bool { return slices.Contains(s.config.Proxies, a) }

// broken answers a request whose page needs what the store does not give.
func (s *Site) broken(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case r.Context().Err() != nil:
		return // nobody waits for an answer
	case errors.Is(err, store.ErrNotFound):
		s.fail(w, r, http.StatusNotFound, notFoundText)
		return
	case errors.Is(err, store.ErrConflict):
		s.fail(w, r, http.StatusConflict, "Something else has changed at the same time. Please go back and try again.")
		return
	}
	s.config.Logger.Error("a page failed", "path", r.URL.Path, "error", err)
	s.fail(w, r, http.StatusInternalServerError, ownFaultText)
}

// log notes what somebody did, once it is done.
func (s *Site) log(r *http.Request, what string, args ...any) {
	s.config.Logger.Info(what, append([]any{"from", visitorOf(r.Context()).addr}, args...)...)
}
