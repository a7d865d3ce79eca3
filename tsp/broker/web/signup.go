package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/mail"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sixin4/tsp/broker/store"
)

const (
	mailTime    = 24 * time.Hour      // to read a mail
	approveTime = 30 * 24 * time.Hour // for the operator to approve, and then for the link to be used
	maxEmail    = 254
)

// form is what somebody typed to sign up.
type form struct {
	Mode        Mode
	Name, Email string
}

func (s *Site) signUpForm(w http.ResponseWriter, r *http.Request) {
	s.showSignUp(w, r, http.StatusOK, form{}, "")
}

func (s *Site) showSignUp(w http.ResponseWriter, r *http.Request, status int, f form, problem string) {
	if f.Mode = s.config.SignUp; f.Mode == Closed {
		status = http.StatusForbidden
	}
	s.show(w, r, status, "signup", view{Title: "Sign up", Problem: problem, Body: f})
}

// signUp takes a name, and an e-mail. What is answered, and how fast, depends on what
// was typed only, not on who exists: that is found out when the mail is written, or by
// the operator.
func (s *Site) signUp(w http.ResponseWriter, r *http.Request) {
	f := form{Name: strings.TrimSpace(r.PostFormValue("name")), Email: strings.TrimSpace(r.PostFormValue("email"))}
	problem := checkName(f.Name)
	if problem == "" && (f.Email != "" || s.config.SignUp == Mail) {
		problem = checkEmail(f.Email)
	}
	switch {
	case s.config.SignUp == Closed:
		s.showSignUp(w, r, http.StatusForbidden, f, "")
		return
	case problem != "":
		s.showSignUp(w, r, http.StatusUnprocessableEntity, f, problem)
		return
	case !s.signups.Take(time.Now(), siteOf(visitorOf(r.Context()).source)):
		s.tooMany(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	secret, err := s.addSignup(ctx, f, visitorOf(ctx).source)
	if err == nil && s.config.SignUp == Mail {
		err = s.post(letter{name: f.Name, email: strings.ToLower(f.Email), secret: secret})
	}
	switch {
	case errors.Is(err, errBusy):
		s.fail(w, r, http.StatusServiceUnavailable, "Too many people sign up at the moment. Please try again later.")
		return
	case err != nil:
		s.broken(w, r, err)
		return
	}
	s.log(r, "signed up at the web pages", "user", f.Name)
	s.showRequested(w, r, f, secret)
}

// siteOf is what sign-ups are counted by.
func siteOf(source netip.Addr) netip.Addr {
	if !source.Is6() {
		return source
	}
	p, _ := source.Prefix(48) // 48 is in range
	return p.Addr()
}

// networkOf is what waiting sign-ups are counted by: whoever has so much has no more
// room in the list for it. What comes through a network of IPv6 like that of a provider
// is as much as what comes from 256 addresses of IPv4.
func networkOf(source netip.Addr) string {
	bits := 24
	if source.Is6() {
		bits = 32
	}
	p, err := source.Prefix(bits)
	if err != nil {
		return "" // not an address
	}
	return p.String()
}

// addSignup puts a sign-up on record and returns its secret.
func (s *Site) addSignup(ctx context.Context, f form, source netip.Addr) (secret string, err error) {
	secret = rand.Text()
	lasts, byMail := approveTime, s.config.SignUp == Mail
	if byMail {
		lasts = mailTime
	}
	_, err = s.config.Store.AddSignup(ctx, store.Signup{
		Name: f.Name, Email: strings.ToLower(f.Email), Token: hashSecret(secret),
		Source: networkOf(source), Mailed: byMail,
		Approved: byMail, PrefixLen: s.config.PrefixLen, MaxTunnels: 1,
		Expires: time.Now().Add(lasts),
	})
	return secret, err
}

func hashSecret(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// showRequested says what happens next. The link is shown where there is no mail.
func (s *Site) showRequested(w http.ResponseWriter, r *http.Request, f form, secret string) {
	v := struct{ Email, Link, Path string }{Email: f.Email}
	if s.config.SignUp == Approve {
		v.Path = welcomePath(secret)
		v.Link = s.config.URL.String() + v.Path
	}
	s.show(w, r, http.StatusOK, "requested", view{Title: "One more step", Body: v})
}

func welcomePath(secret string) string { return "/welcome?secret=" + secret }

// welcomed is somebody with a link.
type welcomed struct {
	Secret, Name string
	Waiting      bool // for the operator
	Choose       bool // a password, or else one is made
	Password     string
	Kit          kit
}

// findSecret finds the sign-up of a link; when there is none it has answered.
func (s *Site) findSecret(w http.ResponseWriter, r *http.Request, secret string) (v store.Signup, ok bool) {
	v, err := s.config.Store.SignupByToken(r.Context(), hashSecret(secret))
	switch {
	case errors.Is(err, store.ErrNotFound):
		s.fail(w, r, http.StatusNotFound, "This link was used already, or is too old. If you have an account, log in; otherwise sign up again.")
	case err != nil:
		s.broken(w, r, err)
	default:
		return v, true
	}
	return v, false
}

// welcomeForm uses nothing up: programs follow links in mails before people do. It is
// noted that the link was opened.
func (s *Site) welcomeForm(w http.ResponseWriter, r *http.Request) {
	secret := r.URL.Query().Get("secret")
	v, ok := s.findSecret(w, r, secret)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	if !v.Opened {
		if err := s.config.Store.OpenSignup(ctx, v.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			s.broken(w, r, err)
			return
		}
	}
	s.showWelcome(w, r, http.StatusOK, v, secret, "")
}

func (s *Site) showWelcome(w http.ResponseWriter, r *http.Request, status int, v store.Signup, secret, problem string) {
	page := view{Title: "Welcome", Problem: problem, Body: welcomed{
		Secret: secret, Name: v.Name, Waiting: !v.Approved, Choose: v.Mailed,
	}}
	if !v.Approved {
		page.Title, page.Refresh = "Waiting for the operator", 60
	}
	s.show(w, r, status, "welcome", page)
}

// welcome makes the user.
func (s *Site) welcome(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), storeTime)
	defer cancel()
	r = r.WithContext(ctx)
	secret := r.PostFormValue("secret")
	v, ok := s.findSecret(w, r, secret)
	if !ok {
		return
	}
	password, problem := rand.Text()[:20], ""
	if v.Mailed {
		password = r.PostFormValue("new")
		problem = s.checkNew(v.Name, password, r.PostFormValue("again"))
	}
	if problem != "" || !v.Approved {
		s.showWelcome(w, r, http.StatusUnprocessableEntity, v, secret, problem)
		return
	}
	u, err := s.redeem(ctx, v, password)
	switch {
	case errors.Is(err, store.ErrEmail):
		s.fail(w, r, http.StatusConflict, "Your e-mail address has an account already. Log in with that.")
	case errors.Is(err, store.ErrExists):
		s.fail(w, r, http.StatusConflict, "Somebody else has taken this name meanwhile. Please sign up again with another one.")
	case errors.Is(err, store.ErrNotFound):
		s.fail(w, r, http.StatusNotFound, "This link was used already.")
	case err != nil:
		s.broken(w, r, err)
	default:
		s.log(r, "has an account now", "user", u.Name)
		page := welcomed{Name: u.Name, Kit: s.kit(u, store.Lease{})}
		if !v.Mailed {
			page.Password = password
		}
		s.show(w, r, http.StatusOK, "account", view{Title: "Your account", Body: page})
	}
}

// redeem makes the user of a sign-up. The slow part is before the store is asked.
func (s *Site) redeem(ctx context.Context, v store.Signup, password string) (store.User, error) {
	u := store.User{Name: v.Name}
	keys, _, err := s.hash(u, password)
	if err != nil {
		return store.User{}, err
	}
	u.Scram = keys
	return s.config.Store.Redeem(ctx, v.Token, u)
}

// checkName says what is wrong with the name that somebody wants, or nothing. Names by
// which people could be taken for others are not to be had.
func checkName(name string) string {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_", r)
	}
	switch {
	case len(name) < 3 || len(name) > 32:
		return "The name has to have 3 to 32 characters."
	case strings.ContainsFunc(name, odd):
		return "The name may have lower-case letters a to z, digits, dots, hyphens and underscores only."
	case odd(rune(name[0])), strings.ContainsAny(name[:1], ".-_"):
		return "The name has to begin with a letter or a digit."
	}
	return ""
}

// checkEmail says what is wrong with an e-mail address, or nothing.
func checkEmail(email string) string {
	a, err := mail.ParseAddress(email)
	_, host, _ := strings.Cut(email, "@")
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if err != nil || a.Address != email || a.Name != "" || len(email) > maxEmail || strings.ContainsFunc(email, odd) ||
		!strings.Contains(strings.Trim(host, "."), ".") {
		return "This is not an e-mail address that a mail can be sent to."
	}
	return ""
}

// sentence makes an error text one for people.
func sentence(err error) string {
	text := err.Error()
	first, n := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + strings.TrimSuffix(text[n:], ".") + "."
}
