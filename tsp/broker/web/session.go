package web

import (
	"bytes"
	"container/list"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"sixin4/tsp/broker/store"
)

const (
	idleTime    = 12 * time.Hour
	sessionTime = 7 * 24 * time.Hour
	maxSessions = 10_000 // in all; the longest unused goes
	maxOfUser   = 20     // of one user; the same
)

// sessions are those who have logged in.
type sessions struct {
	mu    sync.Mutex
	byKey map[[sha256.Size]byte]*list.Element
	order list.List // of *session, longest unused first
}

// session is never changed but for used, which has the lock of sessions.
type session struct {
	key     [sha256.Size]byte // of the cookie
	userID  string
	login   []byte // the user's stored key: another password is the end
	created time.Time
	used    time.Time
}

func newSessions() *sessions {
	return &sessions{byKey: make(map[[sha256.Size]byte]*list.Element)}
}

// begin starts a session and returns its cookie.
func (t *sessions) begin(u store.User) string {
	cookie, now := rand.Text(), time.Now()
	v := &session{key: sha256.Sum256([]byte(cookie)), userID: u.ID, login: bytes.Clone(u.Scram.StoredKey), created: now, used: now}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.makeRoom(u.ID)
	t.byKey[v.key] = t.order.PushBack(v)
	return cookie
}

// makeRoom removes one session when there are too many.
func (t *sessions) makeRoom(userID string) {
	var oldest *list.Element
	n := 0
	for e := t.order.Back(); e != nil; e = e.Prev() {
		if e.Value.(*session).userID == userID {
			oldest = e
			n++
		}
	}
	switch {
	case n >= maxOfUser:
		t.remove(oldest)
	case t.order.Len() >= maxSessions:
		t.remove(t.order.Front())
	}
}

func (t *sessions) remove(e *list.Element) {
	t.order.Remove(e)
	delete(t.byKey, e.Value.(*session).key)
}

// find is the session of a cookie, nil when it is over.
func (t *sessions) find(cookie string) *session {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byKey[sha256.Sum256([]byte(cookie))]
	if e == nil {
		return nil
	}
	v := e.Value.(*session)
	if now.Sub(v.used) >= idleTime || now.Sub(v.created) >= sessionTime {
		t.remove(e)
		return nil
	}
	v.used = now
	t.order.MoveToBack(e)
	return v
}

// end ends the session of a cookie.
func (t *sessions) end(cookie string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byKey[sha256.Sum256([]byte(cookie))]; e != nil {
		t.remove(e)
	}
}

// The cookies. A name with __Host- is one that no other host and no plain http has set
// (RFC 6265bis, from memory).
const (
	sessionCookie = "sixin4-session"
	formCookie    = "sixin4-form" // for the tokens of forms of who has not logged in
)

func (s *Site) cookieName(name string) string {
	if s.secure {
		return "__Host-" + name
	}
	return name
}

// cookie is what the browser has, empty for none.
func (s *Site) cookie(r *http.Request, name string) string {
	c, err := r.Cookie(s.cookieName(name))
	if err != nil {
		return ""
	}
	return c.Value
}

// setCookie gives the browser a cookie until it is closed; an empty one is taken away.
func (s *Site) setCookie(w http.ResponseWriter, name, value string) {
	c := &http.Cookie{
		Name: s.cookieName(name), Value: value, Path: "/", Secure: s.secure, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

type contextKey int

const (
	visitorKey contextKey = iota
	userKey
)

func withVisitor(ctx context.Context, v visitor) context.Context {
	return context.WithValue(ctx, visitorKey, v)
}

func visitorOf(ctx context.Context) visitor {
	v, _ := ctx.Value(visitorKey).(visitor)
	return v
}

// userOf is who has logged in; only for what is behind user and operator.
func userOf(ctx context.Context) store.User {
	u, _ := ctx.Value(userKey).(store.User)
	return u
}

// storeTime bounds what the store may take for one page.
const storeTime = 15 * time.Second

// loggedIn finds who has logged in; ok is false for nobody.
func (s *Site) loggedIn(r *http.Request) (u store.User, ok bool, err error) {
	cookie := s.cookie(r, sessionCookie)
	if cookie == "" {
		return u, false, nil
	}
	v := s.sessions.find(cookie)
	if v == nil {
		return u, false, nil
	}
	u, err = s.config.Store.User(r.Context(), v.userID)
	if errors.Is(err, store.ErrNotFound) || err == nil && (u.Disabled || !bytes.Equal(u.Scram.StoredKey, v.login)) {
		s.sessions.end(cookie)
		return store.User{}, false, nil
	}
	return u, err == nil, err
}

// user lets in who has logged in, and sends others to do so.
func (s *Site) user(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), storeTime)
		defer cancel()
		r = r.WithContext(ctx)
		u, ok, err := s.loggedIn(r)
		switch {
		case err != nil:
			s.broken(w, r, err)
		case !ok:
			redirect(w, r, "/login")
		default:
			next(w, r.WithContext(context.WithValue(ctx, userKey, u)))
		}
	}
}

// operator lets in operators; for others the page is not there.
func (s *Site) operator(next http.HandlerFunc) http.HandlerFunc {
	return s.user(func(w http.ResponseWriter, r *http.Request) {
		if !userOf(r.Context()).Operator {
			s.fail(w, r, http.StatusNotFound, notFoundText)
			return
		}
		next(w, r)
	})
}

// redirect goes on with another page of ours by GET. The path is never a visitor's.
func redirect(w http.ResponseWriter, r *http.Request, path string) {
	http.Redirect(w, r, path, http.StatusSeeOther)
}

// token is what forms of this visitor have. It is bound to the session, or else to a
// cookie that is only there for this.
func (s *Site) token(w http.ResponseWriter, r *http.Request) string {
	bound := s.boundTo(r)
	if bound == "" {
		bound = rand.Text()
		s.setCookie(w, formCookie, bound)
	}
	return s.tokenOf(bound)
}

// boundTo is the cookie that a token is made of, empty when there is none.
func (s *Site) boundTo(r *http.Request) string {
	if c := s.cookie(r, sessionCookie); c != "" && s.sessions.find(c) != nil {
		return c
	}
	return s.cookie(r, formCookie)
}

func (s *Site) tokenOf(bound string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(bound))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// posted lets forms pass that we have made for this visitor.
func (s *Site) posted(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			s.fail(w, r, http.StatusBadRequest, "This form could not be read.")
			return
		}
		if !s.isOurs(r) {
			s.fail(w, r, http.StatusForbidden, "This form is too old, or the browser keeps no cookies. Please go back, load the page again and send it once more.")
			return
		}
		next(w, r)
	}
}

// isOurs reports whether a form has the token of its visitor. Who has come by a link
// elsewhere has got a form without the session, as browsers then keep it back
// (SameSite), and sends it with the session: where nobody needs to have logged in, that
// is good too.
func (s *Site) isOurs(r *http.Request) bool {
	bounds := []string{s.boundTo(r)}
	if userOf(r.Context()).ID == "" {
		bounds = append(bounds, s.cookie(r, formCookie))
	}
	token := []byte(r.PostFormValue("token"))
	return slices.ContainsFunc(bounds, func(bound string) bool {
		return bound != "" && subtle.ConstantTimeCompare(token, []byte(s.tokenOf(bound))) == 1
	})
}
