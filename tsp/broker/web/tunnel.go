package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker/store"
)

// tunnelView is a lease, as pages show it.
type tunnelView struct {
	store.Lease
	Owner string
	Live  *Live // nil when it is not carried
	Kit   kit
}

// Condition is the state in a word or two.
func (t tunnelView) Condition() string {
	switch {
	case t.Live != nil && t.Live.Proven:
		return "up"
	case t.Live != nil:
		return "waiting for an answer"
	case t.State == store.Offered:
		return "never used"
	case t.State == store.Quarantined:
		return "given back"
	}
	return "down"
}

// Where is the client's end, if it ever had one.
func (t tunnelView) Where() string {
	switch {
	case !t.Outer.IsValid():
		return ""
	case t.Outer.Port() == 0:
		return t.Outer.Addr().String()
	}
	return t.Outer.String()
}

// Kind is the type of the tunnel in words.
func (t tunnelView) Kind() string {
	switch t.Type {
	case tsp.V6V4:
		return "protocol 41"
	case tsp.V6UDPV4:
		return "UDP"
	}
	return string(t.Type)
}

// Seen is when it was last in use.
func (t tunnelView) Seen() time.Time {
	if t.Live != nil && t.Live.Heard.After(t.LastSeen) {
		return t.Live.Heard
	}
	return t.LastSeen
}

func (s *Site) viewOf(l store.Lease) tunnelView {
	v := tunnelView{Lease: l}
	if live, ok := s.config.Backend.Live(l.ID); ok {
		v.Live = &live
	}
	return v
}

// notices are what ?done= may say.
var notices = map[string]string{
	"password": "The password is changed. Whoever else was logged in is not any more.",
	"reset":    "The password is changed. Log in with the new one.",
	"reserved": "This address is yours.",
	"dropped":  "The tunnel is down. Address and prefix stay yours.",
	"released": "Address and prefix are given back.",
	"disabled": "The user is disabled.",
	"enabled":  "The user is enabled.",
	"removed":  "The user is removed.",
	"approved": "Approved: the link that the person has works now.",
	"rejected": "The request is rejected.",
	"drain":    "No new tunnels are given.",
	"undrain":  "New tunnels are given again.",
}

// tunnel is the page of who has logged in.
func (s *Site) tunnel(w http.ResponseWriter, r *http.Request) {
	u := userOf(r.Context())
	leases, err := s.config.Store.LeasesOf(r.Context(), u.ID)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	var body struct {
		Tunnels   []tunnelView
		Kit       kit
		PrefixLen int
		End       string
	}
	for _, l := range leases {
		v := s.viewOf(l)
		v.Kit = s.kit(u, l)
		body.Tunnels = append(body.Tunnels, v)
	}
	body.Kit, body.PrefixLen, body.End = s.kit(u, store.Lease{}), u.PrefixLen, s.config.End.String()
	s.show(w, r, http.StatusOK, "tunnel", view{Title: "My tunnel", Notice: notices[r.URL.Query().Get("done")], Body: body})
}

// reserve gives a user who has no address yet one, to set up a router with.
func (s *Site) reserve(w http.ResponseWriter, r *http.Request) {
	ctx, u := r.Context(), userOf(r.Context())
	_, err := s.config.Store.Reserve(ctx, store.Want{UserID: u.ID, PrefixLen: u.PrefixLen})
	switch {
	case errors.Is(err, store.ErrFull):
		s.fail(w, r, http.StatusServiceUnavailable, "No address or prefix is left. Please tell the operator.")
	case err != nil:
		s.broken(w, r, err)
	default:
		redirect(w, r, "/tunnel?done=reserved")
	}
}

// own finds a lease of the user by the ID in the path; when there is none it has answered.
func (s *Site) own(w http.ResponseWriter, r *http.Request) (l store.Lease, ok bool) {
	l, err := s.config.Store.Lease(r.Context(), r.PathValue("id"))
	if err == nil && l.UserID != userOf(r.Context()).ID {
		err = store.ErrNotFound
	}
	if err != nil {
		s.broken(w, r, err)
	}
	return l, err == nil
}

func (s *Site) drop(w http.ResponseWriter, r *http.Request) {
	if l, ok := s.own(w, r); ok {
		s.end(w, r, l, s.config.Store.Deactivate, "dropped a tunnel at the web pages", "/tunnel?done=dropped")
	}
}

// end ends a session in the store, and then in the broker.
func (s *Site) end(w http.ResponseWriter, r *http.Request, l store.Lease,
	how func(context.Context, string, int64) error, what, next string) {
	if err := how(r.Context(), l.ID, l.Epoch); err != nil {
		s.broken(w, r, err)
		return
	}
	s.config.Backend.Ended(l.ID)
	s.log(r, what, "user", userOf(r.Context()).Name, "lease", l.ID, "address", l.Client6)
	redirect(w, r, next)
}

func (s *Site) releaseForm(w http.ResponseWriter, r *http.Request) {
	if l, ok := s.own(w, r); ok {
		s.show(w, r, http.StatusOK, "release", view{Title: "Give it back?", Body: s.viewOf(l)})
	}
}

func (s *Site) release(w http.ResponseWriter, r *http.Request) {
	l, ok := s.own(w, r)
	switch {
	case !ok:
	case !s.releases.Take(time.Now(), l.UserID):
		s.fail(w, r, http.StatusTooManyRequests, "You have given back several addresses already. Please try again in an hour.")
	default:
		s.end(w, r, l, s.config.Store.Release, "gave an address back at the web pages", "/tunnel?done=released")
	}
}
