package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

// accounts are the users of a store. Whatever mechanisms a user has for tunnels: here
// the password comes by https.
type accounts struct{ store store.Store }

// Lookup finds the user of a name.
func (a accounts) Lookup(ctx context.Context, name string) (*account.User, error) {
	u, err := a.store.UserByName(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", account.ErrNoUser, err)
	}
	if err != nil {
		return nil, err
	}
	return &account.User{ID: u.ID, Name: u.Name, Scram: u.Scram, Disabled: u.Disabled}, nil
}

// check finds who has a name and a password. Errors are as those of account.Login.
func (s *Site) check(ctx context.Context, from visitor, name, password string) (store.User, error) {
	l, err := s.verifier.Start(sasl.Plain, account.Source{Addr: from.source})
	if err != nil {
		return store.User{}, err
	}
	if _, _, err := l.Next(ctx, []byte(name+"\x00"+password)); err != nil {
		return store.User{}, err
	}
	return s.config.Store.User(ctx, l.User().ID)
}

// wrong is what somebody is told whose password was not accepted, and the status.
func wrong(err error) (status int, text string) {
	switch {
	case errors.Is(err, account.ErrBusy):
		return http.StatusTooManyRequests, "Too many attempts. Please wait a minute."
	case errors.Is(err, sasl.ErrAuth):
		return http.StatusUnauthorized, "Name or password is wrong."
	}
	return http.StatusInternalServerError, ownFaultText
}

func (s *Site) loginForm(w http.ResponseWriter, r *http.Request) {
	if s.shownUser(r) != nil {
		redirect(w, r, "/tunnel")
		return
	}
	s.show(w, r, http.StatusOK, "login", view{Title: "Log in", Notice: notices[r.URL.Query().Get("done")]})
}

func (s *Site) login(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	u, err := s.check(ctx, visitorOf(ctx), r.PostFormValue("name"), r.PostFormValue("password"))
	if err != nil {
		status, text := wrong(err)
		if status == http.StatusInternalServerError {
			s.config.Logger.Error("a login failed", "error", err)
		}
		s.show(w, r, status, "login", view{Title: "Log in", Problem: text, Body: r.PostFormValue("name")})
		return
	}
	s.sessions.end(s.cookie(r, sessionCookie))
	s.setCookie(w, sessionCookie, s.sessions.begin(u))
	s.log(r, "logged in at the web pages", "user", u.Name)
	redirect(w, r, "/tunnel")
}

func (s *Site) logout(w http.ResponseWriter, r *http.Request) {
	s.sessions.end(s.cookie(r, sessionCookie))
	s.setCookie(w, sessionCookie, "")
	redirect(w, r, "/")
}

func (s *Site) passwordForm(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusOK, "password", view{Title: "Change the password"})
}

// password changes that of the user, who must know the old one: a session that was left
// open is not enough.
func (s *Site) password(w http.ResponseWriter, r *http.Request) {
	ctx, u := r.Context(), userOf(r.Context())
	again := func(status int, problem string) {
		s.show(w, r, status, "password", view{Title: "Change the password", Problem: problem})
	}
	fresh := r.PostFormValue("new")
	if _, err := s.check(ctx, visitorOf(ctx), u.Name, r.PostFormValue("old")); err != nil {
		status, text := wrong(err)
		if errors.Is(err, sasl.ErrAuth) {
			text = "The old password is wrong."
		}
		again(status, text)
		return
	}
	if problem := s.checkNew(u.Name, fresh, r.PostFormValue("again")); problem != "" {
		again(http.StatusUnprocessableEntity, problem)
		return
	}
	keys, digest, err := s.hash(u, fresh)
	if err == nil {
		u, err = s.config.Store.UpdateUser(ctx, u.ID, setPassword(keys, digest))
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	// All sessions are over, as the password is another one; this one goes on as a new one.
	s.setCookie(w, sessionCookie, s.sessions.begin(u))
	s.log(r, "changed the password at the web pages", "user", u.Name)
	redirect(w, r, "/tunnel?done=password")
}

// checkNew says what is wrong with a password that somebody wants, or nothing.
func (s *Site) checkNew(name, password, again string) string {
	if password != again {
		return "The two passwords are not the same."
	}
	if err := s.config.CheckPassword(name, password); err != nil {
		return sentence(err)
	}
	return ""
}

// hash makes what is stored of a password. The digest is for users with legacy login.
func (s *Site) hash(u store.User, password string) (keys sasl.ScramKeys, d sasl.Digest, err error) {
	keys, err = account.HashPassword(u.Name, password, s.config.Iterations)
	return keys, sasl.NewDigest(u.Name, s.config.Realm, password), err
}
