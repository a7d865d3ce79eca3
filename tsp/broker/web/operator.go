package web

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"sixin4/tsp/broker/store"
)

// pageSize is how many users or tunnels are on a page.
const pageSize = 50

// refreshTime is how often the overview is loaded again, in seconds.
const refreshTime = 5

// overview is the state of the broker, with the graph. A browser loads it again and
// again, unless the operator wants it to hold still.
func (s *Site) overview(w http.ResponseWriter, r *http.Request) {
	totals, pool := s.config.Backend.Totals(), s.config.Store.Usage()
	still := r.URL.Query().Has("still")
	page := view{Title: "Overview", Notice: notices[r.URL.Query().Get("done")], Body: struct {
		Totals   Totals
		Pool     store.Usage
		Draining bool
		Still    bool
		Graph    graph
	}{totals, pool, s.config.Backend.Draining(), still, s.traffic.graph(time.Now())}}
	if !still {
		page.Refresh = refreshTime
	}
	s.show(w, r, http.StatusOK, "overview", page)
}

func (s *Site) drain(w http.ResponseWriter, r *http.Request) {
	on := r.PostFormValue("on") == "true"
	s.config.Backend.Drain(on)
	s.log(r, "drain was switched at the web pages", "user", userOf(r.Context()).Name, "on", on)
	if on {
		redirect(w, r, "/operator?done=drain")
		return
	}
	redirect(w, r, "/operator?done=undrain")
}

// found is a page of what was looked for.
type found[T any] struct {
	Text string
	Rows []T
	Next template.URL // query of the next page, empty on the last
}

// search is what the query of a page asks for, one more than fits on it.
func search(r *http.Request) store.Find {
	q := r.URL.Query()
	return store.Find{Text: q.Get("q"), After: q.Get("after"), Limit: pageSize + 1}
}

// paged cuts off what does not fit. after is where the next page begins.
func paged[T any](f store.Find, all []T, after func(T) string) found[T] {
	v := found[T]{Text: f.Text, Rows: all}
	if len(all) > pageSize {
		v.Rows = all[:pageSize]
		v.Next = template.URL(url.Values{"q": {f.Text}, "after": {after(v.Rows[pageSize-1])}}.Encode())
	}
	return v
}

func (s *Site) users(w http.ResponseWriter, r *http.Request) {
	f := search(r)
	all, err := s.config.Store.FindUsers(r.Context(), f)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "users", view{
		Title: "Users", Notice: notices[r.URL.Query().Get("done")], Body: paged(f, all, func(u store.User) string { return u.Name }),
	})
}

// other finds the user in the path, who must not be the operator: nobody shall lock
// themselves out. When there is none it has answered.
func (s *Site) other(w http.ResponseWriter, r *http.Request) (u store.User, ok bool) {
	u, err := s.config.Store.User(r.Context(), r.PathValue("id"))
	switch {
	case err != nil:
		s.broken(w, r, err)
	case u.ID == userOf(r.Context()).ID:
		s.fail(w, r, http.StatusForbidden, "This is you. Another operator, or tspd user, can do that.")
	default:
		return u, true
	}
	return u, false
}

func (s *Site) disable(w http.ResponseWriter, r *http.Request) { s.setDisabled(w, r, true, "disabled") }
func (s *Site) enable(w http.ResponseWriter, r *http.Request)  { s.setDisabled(w, r, false, "enabled") }

func (s *Site) setDisabled(w http.ResponseWriter, r *http.Request, disabled bool, done string) {
	u, ok := s.other(w, r)
	if !ok {
		return
	}
	leases, err := s.config.Store.LeasesOf(r.Context(), u.ID)
	if err == nil {
		_, err = s.config.Store.UpdateUser(r.Context(), u.ID, func(u *store.User) error {
			u.Disabled = disabled
			return nil
		})
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	if disabled {
		s.ended(leases)
	}
	s.log(r, "the operator has "+done+" a user", "user", u.Name, "operator", userOf(r.Context()).Name)
	redirect(w, r, "/operator/users?done="+done)
}

// ended takes down what the store has ended.
func (s *Site) ended(leases []store.Lease) {
	for _, l := range leases {
		s.config.Backend.Ended(l.ID)
	}
}

func (s *Site) removeForm(w http.ResponseWriter, r *http.Request) {
	u, ok := s.other(w, r)
	if !ok {
		return
	}
	leases, err := s.config.Store.LeasesOf(r.Context(), u.ID)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "remove", view{Title: "Remove " + u.Name + "?", Body: struct {
		User   store.User
		Leases []store.Lease
	}{u, leases}})
}

func (s *Site) remove(w http.ResponseWriter, r *http.Request) {
	u, ok := s.other(w, r)
	if !ok {
		return
	}
	leases, err := s.config.Store.LeasesOf(r.Context(), u.ID)
	if err == nil {
		err = s.config.Store.RemoveUser(r.Context(), u.ID)
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	s.ended(leases)
	s.log(r, "the operator has removed a user", "user", u.Name, "operator", userOf(r.Context()).Name)
	redirect(w, r, "/operator/users?done=removed")
}

func (s *Site) requestList(w http.ResponseWriter, r *http.Request) {
	s.showRequests(w, r, http.StatusOK, "")
}

// request is a sign-up, and whether its name is to be had.
type request struct {
	store.Signup
	Taken bool
}

func (s *Site) showRequests(w http.ResponseWriter, r *http.Request, status int, problem string) {
	f := search(r)
	all, err := s.config.Store.FindSignups(r.Context(), f)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	page := paged(f, all, store.Signup.Place)
	rows := make([]request, 0, len(page.Rows))
	for _, v := range page.Rows {
		_, err := s.config.Store.UserByName(r.Context(), v.Name)
		rows = append(rows, request{v, err == nil})
	}
	s.show(w, r, status, "requests", view{
		Title: "Requests", Problem: problem, Notice: notices[r.URL.Query().Get("done")],
		Body: found[request]{Text: page.Text, Rows: rows, Next: page.Next},
	})
}

func (s *Site) approve(w http.ResponseWriter, r *http.Request) {
	v, err := s.config.Store.ApproveSignup(r.Context(), store.Signup{
		ID: r.PathValue("id"), PrefixLen: s.config.PrefixLen, MaxTunnels: 1, Expires: time.Now().Add(approveTime),
	})
	switch {
	case errors.Is(err, store.ErrExists):
		s.showRequests(w, r, http.StatusConflict, "A user has that name already. Reject the request; the person may sign up with another name.")
	case err != nil:
		s.broken(w, r, err)
	default:
		s.log(r, "the operator has approved a sign-up", "user", v.Name, "operator", userOf(r.Context()).Name)
		redirect(w, r, "/operator/requests?done=approved")
	}
}

func (s *Site) reject(w http.ResponseWriter, r *http.Request) {
	if err := s.config.Store.RemoveSignup(r.Context(), r.PathValue("id")); err != nil {
		s.broken(w, r, err)
		return
	}
	s.log(r, "the operator has rejected a sign-up", "operator", userOf(r.Context()).Name)
	redirect(w, r, "/operator/requests?done=rejected")
}

func (s *Site) tunnels(w http.ResponseWriter, r *http.Request) {
	f := search(r)
	leases, err := s.config.Store.FindLeases(r.Context(), f)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	page := paged(f, leases, func(l store.Lease) string { return l.ID })
	rows := make([]tunnelView, 0, len(page.Rows))
	names := make(map[string]string)
	for _, l := range page.Rows {
		v := s.viewOf(l)
		if l.UserID != "" && names[l.UserID] == "" {
			u, err := s.config.Store.User(r.Context(), l.UserID)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				s.broken(w, r, err)
				return
			}
			names[l.UserID] = u.Name
		}
		v.Owner = names[l.UserID]
		rows = append(rows, v)
	}
	s.show(w, r, http.StatusOK, "tunnels", view{
		Title: "Tunnels", Notice: notices[r.URL.Query().Get("done")],
		Body: found[tunnelView]{Text: page.Text, Rows: rows, Next: page.Next},
	})
}

// dropAny ends a tunnel of somebody.
func (s *Site) dropAny(w http.ResponseWriter, r *http.Request) {
	l, err := s.config.Store.Lease(r.Context(), r.PathValue("id"))
	if err != nil {
		s.broken(w, r, err)
		return
	}
	s.end(w, r, l, s.config.Store.Deactivate, "the operator has dropped a tunnel", "/operator/tunnels?done=dropped")
}
