package web

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

// resetTime is how long a link for another password works.
const resetTime = time.Hour

const staleText = "This link was used already, is too old, or the password has changed since. Ask for another one."

// forgotForm asks whose password is forgotten; without a mail server only the operator
// can help.
func (s *Site) forgotForm(w http.ResponseWriter, r *http.Request) {
	s.showForgot(w, r, http.StatusOK, false)
}

func (s *Site) showForgot(w http.ResponseWriter, r *http.Request, status int, sent bool) {
	s.show(w, r, status, "forgot", view{Title: "Forgot your password?", Body: struct{ Mail, Sent bool }{s.config.Mailer != nil, sent}})
}

// forgot has a link sent to who forgot a password. What is answered, and how fast, does
// not depend on whether there is such a user: that is found out when the mail is written.
func (s *Site) forgot(w http.ResponseWriter, r *http.Request) {
	typed := strings.TrimSpace(r.PostFormValue("who"))
	switch {
	case s.config.Mailer == nil:
		s.showForgot(w, r, http.StatusForbidden, false)
		return
	case typed == "" || len(typed) > maxEmail:
		s.showForgot(w, r, http.StatusUnprocessableEntity, false)
		return
	case !s.forgots.Take(time.Now(), siteOf(visitorOf(r.Context()).source)):
		s.tooMany(w, r)
		return
	}
	if err := s.post(letter{forgot: typed}); err != nil {
		s.fail(w, r, http.StatusServiceUnavailable, "Too many mails wait to be sent. Please try again later.")
		return
	}
	s.showForgot(w, r, http.StatusOK, true)
}

// address finds who a letter about a forgotten password is for, and makes the link. It is
// for nobody when there is no such user, or one who has not shown to read the e-mail, may
// not log in, or has got enough of these.
func (s *Site) address(ctx context.Context, l *letter) (found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	u, err := s.config.Store.UserByEmail(ctx, strings.ToLower(l.forgot)) // first: a name may look like an e-mail
	if errors.Is(err, store.ErrNotFound) {
		u, err = s.config.Store.UserByName(ctx, l.forgot)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case !u.Confirmed || u.Disabled || !s.resets.Take(time.Now(), u.ID):
		return false, nil
	}
	secret := rand.Text()
	err = s.config.Store.AddReset(ctx, store.Reset{UserID: u.ID, Token: hashSecret(secret), Expires: time.Now().Add(resetTime)})
	if err != nil {
		return false, err
	}
	l.name, l.email, l.secret = u.Name, u.Email, secret
	s.config.Logger.Info("a link for another password is sent", "user", u.Name)
	return true, nil
}

func resetPath(secret string) string { return "/reset?secret=" + secret }

// findReset finds whose password a link is for; when there is none it has answered.
func (s *Site) findReset(w http.ResponseWriter, r *http.Request, secret string) (u store.User, ok bool) {
	u, err := s.config.Store.UserByReset(r.Context(), hashSecret(secret))
	switch {
	case errors.Is(err, store.ErrNotFound):
		s.fail(w, r, http.StatusNotFound, staleText)
	case err != nil:
		s.broken(w, r, err)
	default:
		return u, true
	}
	return u, false
}

// resetForm uses nothing up, as welcomeForm.
func (s *Site) resetForm(w http.ResponseWriter, r *http.Request) {
	secret := r.URL.Query().Get("secret")
	if u, ok := s.findReset(w, r, secret); ok {
		s.showReset(w, r, http.StatusOK, u, secret, "")
	}
}

func (s *Site) showReset(w http.ResponseWriter, r *http.Request, status int, u store.User, secret, problem string) {
	s.show(w, r, status, "reset", view{
		Title: "Choose another password", Problem: problem, Body: struct{ Name, Secret string }{u.Name, secret},
	})
}

// reset changes the password. All sessions of the user are over then, and other links.
func (s *Site) reset(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	r = r.WithContext(ctx)
	secret, fresh := r.PostFormValue("secret"), r.PostFormValue("new")
	u, ok := s.findReset(w, r, secret)
	if !ok {
		return
	}
	if problem := s.checkNew(u.Name, fresh, r.PostFormValue("again")); problem != "" {
		s.showReset(w, r, http.StatusUnprocessableEntity, u, secret, problem)
		return
	}
	keys, digest, err := s.hash(u, fresh)
	if err == nil {
		u, err = s.config.Store.Reset(ctx, hashSecret(secret), setPassword(keys, digest))
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		s.fail(w, r, http.StatusNotFound, staleText)
	case err != nil:
		s.broken(w, r, err)
	default:
		s.log(r, "changed a forgotten password at the web pages", "user", u.Name)
		redirect(w, r, "/login?done=reset")
	}
}

// setPassword changes what is stored of a password.
func setPassword(keys sasl.ScramKeys, digest sasl.Digest) func(*store.User) error {
	return func(u *store.User) error {
		if u.Scram, u.Digest = keys, nil; u.Legacy {
			u.Digest = &digest
		}
		return nil
	}
}
