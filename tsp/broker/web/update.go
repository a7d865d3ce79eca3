package web

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

// Answers to /nic/update, words that dyndns2 clients know. badip is ours: the clients
// that do not know it take it for an error, which it is.
const (
	answerGood    = "good"    // with the address
	answerNoChg   = "nochg"   // with the address
	answerBadAuth = "badauth" // user or password
	answerNoHost  = "nohost"  // no such tunnel of this user
	answerBadIP   = "badip"   // no tunnel can end there
	answerAbuse   = "abuse"   // too often
	answerOurs    = "911"     // try later
)

// update makes a tunnel end where a router is. It changes something though it is GET:
// that is what routers send. A browser that another site has sent here is refused.
func (s *Site) update(w http.ResponseWriter, r *http.Request) {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" && site != "same-origin" {
		s.fail(w, r, http.StatusForbidden, "This request comes from another site.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	answer := s.updated(r.WithContext(ctx))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if answer == answerBadAuth {
		w.Header().Set("WWW-Authenticate", `Basic realm="tunnels", charset="UTF-8"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	_, _ = w.Write([]byte(answer + "\n")) // who has gone needs no answer
}

func (s *Site) updated(r *http.Request) string {
	ctx, from := r.Context(), visitorOf(r.Context())
	if !s.updates.Take(time.Now(), from.source) {
		return answerAbuse
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		return answerBadAuth
	}
	u, err := s.check(ctx, from, name, password)
	if err != nil {
		return s.notIn(err)
	}
	q := r.URL.Query()
	leaseID, ok, err := s.hosts(ctx, u, q.Get("hostname"))
	switch {
	case err != nil:
		return s.trouble(err)
	case !ok:
		return answerNoHost
	}
	to, ok := destination(q.Get("myip"), from.addr)
	if !ok {
		return answerBadIP
	}
	return s.move(r, u, leaseID, to)
}

func (s *Site) notIn(err error) string {
	switch {
	case errors.Is(err, sasl.ErrAuth):
		return answerBadAuth
	case errors.Is(err, account.ErrBusy):
		return answerOurs
	}
	return s.trouble(err)
}

func (s *Site) trouble(err error) string {
	if !errors.Is(err, context.Canceled) {
		s.config.Logger.Error("an update failed", "error", err)
	}
	return answerOurs
}

// hosts finds the lease that a host name means: its ID, or the name of a user who has
// one tunnel only. It is empty for a user who has none yet.
func (s *Site) hosts(ctx context.Context, u store.User, name string) (leaseID string, ok bool, err error) {
	leases, err := s.config.Store.LeasesOf(ctx, u.ID)
	if err != nil {
		return "", false, err
	}
	for _, l := range leases {
		if l.ID == name {
			return l.ID, true, nil
		}
	}
	switch {
	case name != u.Name || len(leases) > 1:
		return "", false, nil
	case len(leases) == 1:
		return leases[0].ID, true, nil
	}
	return "", true, nil
}

// destination is myip, or where the request comes from.
func destination(myip string, from netip.Addr) (netip.Addr, bool) {
	if myip == "" || strings.EqualFold(myip, "auto") {
		return from, from.Is4()
	}
	a, err := netip.ParseAddr(myip)
	return a, err == nil && a.Is4()
}

func (s *Site) move(r *http.Request, u store.User, leaseID string, to netip.Addr) string {
	if l, ok := s.config.Backend.Live(leaseID); ok && l.Outer == netip.AddrPortFrom(to, 0) {
		return answerNoChg + " " + to.String()
	}
	if !s.moves.Take(time.Now(), u.ID) {
		return answerAbuse
	}
	err := s.config.Backend.Move(r.Context(), u.ID, leaseID, to)
	switch {
	case err == nil:
		s.log(r, "moved a tunnel by /nic/update", "user", u.Name, "lease", leaseID, "outer", to)
		return answerGood + " " + to.String()
	case errors.Is(err, ErrAddress), errors.Is(err, ErrTaken):
		return answerBadIP
	case errors.Is(err, store.ErrNotFound):
		return answerNoHost
	case errors.Is(err, store.ErrDisabled):
		return answerBadAuth
	case errors.Is(err, store.ErrFull), errors.Is(err, store.ErrConflict), errors.Is(err, ErrDraining):
		return answerOurs
	}
	return s.trouble(err)
}
