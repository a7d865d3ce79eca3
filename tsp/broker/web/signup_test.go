package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"sixin4/tsp/broker/store"
)

var (
	linkIn     = regexp.MustCompile(`https://broker\.example\.net(/welcome\?secret=[A-Z2-7]{26})`)
	passwordIn = regexp.MustCompile(`<code id="the-password">([^<]+)</code>`)
)

// TestApprove: somebody asks, the operator approves, the link shows the password once.
func TestApprove(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("root", isOperator)
	alice, root := h.browser(), h.loggedIn("root")
	page := alice.post("/sign-up", url.Values{"name": {"alice"}, "email": {"Alice@example.net"}}, http.StatusOK)
	link := linkIn.FindStringSubmatch(page)
	if link == nil {
		t.Fatalf("no link: %s", page)
	}
	h.has(root.get("/operator/requests", http.StatusOK), "link not opened")
	h.has(alice.get(link[1], http.StatusOK), "waits for the operator", `http-equiv="refresh"`)
	secret := strings.TrimPrefix(link[1], "/welcome?secret=")
	alice.post("/welcome", url.Values{"secret": {secret}}, http.StatusUnprocessableEntity)

	page = root.get("/operator/requests", http.StatusOK)
	if h.has(page, "alice", "alice@example.net"); strings.Contains(page, "not opened") {
		t.Error("the link was opened")
	}
	id := regexp.MustCompile(`/operator/requests/([^/]+)/approve`).FindStringSubmatch(page)
	if to := root.post(id[0], nil, http.StatusSeeOther); to != "/operator/requests?done=approved" {
		t.Errorf("to %s", to)
	}
	h.has(root.get("/operator/requests?done=approved", http.StatusOK), "Nobody waits", notices["approved"])

	page = alice.get(link[1], http.StatusOK)
	if v, err := h.store.SignupByToken(t.Context(), hashSecret(secret)); err != nil || !v.Opened || v.Mailed {
		t.Errorf("%+v, %v: want it opened and not mailed", v, err)
	}
	if h.has(page, "Show my password"); passwordIn.MatchString(page) {
		t.Error("a password that nobody has asked for")
	}
	page = alice.post("/welcome", url.Values{"secret": {secret}}, http.StatusOK)
	shown := passwordIn.FindStringSubmatch(page)
	if shown == nil || len(shown[1]) != 20 {
		t.Fatalf("no password: %s", page)
	}
	alice.post("/welcome", url.Values{"secret": {secret}}, http.StatusNotFound)
	alice.get(link[1], http.StatusNotFound)
	alice.post("/login", url.Values{"name": {"alice"}, "password": {shown[1]}}, http.StatusSeeOther)
	u, err := h.store.UserByName(t.Context(), "alice")
	if err != nil || u.PrefixLen != 64 || u.MaxTunnels != 1 || u.Email != "alice@example.net" || u.Confirmed || u.Operator || u.Legacy {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestReject(t *testing.T) {
	h := newHouse(t, nil)
	h.addUser("root", isOperator)
	h.addUser("taken", nil)
	stranger, root := h.browser(), h.loggedIn("root")
	page := stranger.post("/sign-up", url.Values{"name": {"taken"}}, http.StatusOK)
	link := linkIn.FindStringSubmatch(page)
	page = root.get("/operator/requests", http.StatusOK)
	h.has(page, "name is taken")
	id := regexp.MustCompile(`/operator/requests/([^/]+)/reject`).FindStringSubmatch(page)
	h.has(root.post("/operator/requests/"+id[1]+"/approve", nil, http.StatusConflict), "has that name already")
	root.post(id[0], nil, http.StatusSeeOther)
	stranger.get(link[1], http.StatusNotFound)
	root.post(id[0], nil, http.StatusNotFound)
}

// TestSignUpRefused: what cannot be a name or an e-mail. Who exists is not told.
func TestSignUpRefused(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.SignUp, c.Mailer = Mail, &mailbox{} })
	h.addUser("alice", func(u *store.User) { u.Email, u.Confirmed = "alice@example.net", true })
	for _, tt := range []struct {
		name, user, email string
		want              string // empty: taken
	}{
		{"no name", "", "a@example.net", "3 to 32 characters"},
		{"short", "al", "a@example.net", "3 to 32 characters"},
		{"long", strings.Repeat("a", 33), "a@example.net", "3 to 32 characters"},
		{"upper case", "Alice", "a@example.net", "lower-case"},
		{"blank", "al ice", "a@example.net", "lower-case"},
		{"looks like another", "аlice", "a@example.net", "lower-case"}, // a Cyrillic letter
		{"hyphen in front", "-rf", "a@example.net", "begin with"},
		{"line end", "ali\nce", "a@example.net", "lower-case"},
		{"no e-mail", "bob", "", "not an e-mail address"},
		{"e-mail of a host", "bob", "bob@localhost", "not an e-mail address"},
		{"e-mail with a name", "bob", "Bob <bob@example.net>", "not an e-mail address"},
		{"two e-mails", "bob", "bob@example.net, eve@example.net", "not an e-mail address"},
		{"e-mail with a header", "bob", "bob@example.net\r\nBcc: eve@example.net", "not an e-mail address"},
		{"long e-mail", "bob", strings.Repeat("x", 250) + "@example.net", "not an e-mail address"},
		{"free", "bob", "bob@example.net", ""},
		{"name taken", "alice", "bob2@example.net", ""},
		{"e-mail taken", "alice2", "alice@example.net", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := h.browser()
			status := http.StatusOK
			if tt.want != "" {
				status = http.StatusUnprocessableEntity
			}
			page := b.post("/sign-up", url.Values{"name": {tt.user}, "email": {tt.email}}, status)
			if tt.want != "" {
				h.has(page, tt.want)
				return
			}
			h.has(page, "A mail is on its way to")
			same := strings.ReplaceAll(tokenField.ReplaceAllString(page, ""), tt.email, "")
			if answer == "" {
				answer = same
			}
			if same != answer {
				t.Errorf("the answer differs:\n%s\n%s", same, answer)
			}
		})
	}
}

var answer string // to all who sign up

func TestSignUpClosed(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.SignUp = Closed })
	b := h.browser()
	h.has(b.get("/sign-up", http.StatusForbidden), "Nobody can sign up here")
	b.get("/login", http.StatusOK)
	form := url.Values{"name": {"alice"}, "token": {h.site.tokenOf(b.cookies["__Host-"+formCookie])}}
	b.post("/sign-up", form, http.StatusForbidden)
	for v := range h.store.Signups(t.Context()) {
		t.Errorf("on record is %+v", v)
	}
}

func TestSignUpLimit(t *testing.T) {
	h := newHouse(t, nil)
	b := h.browser()
	for range signupRate.Burst {
		b.post("/sign-up", url.Values{"name": {"alice"}}, http.StatusOK)
	}
	b.post("/sign-up", url.Values{"name": {"alice"}}, http.StatusTooManyRequests)
}

// TestSignUpLimitOfSite: who has many networks of /64 is one person all the same.
func TestSignUpLimitOfSite(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Proxies = []netip.Addr{netip.MustParseAddr("127.0.0.1")} })
	from := func(addr string, status int) {
		t.Helper()
		b := h.browser()
		form := url.Values{"name": {"alice"}, "token": {b.token()}}
		r := httptest.NewRequest("POST", "/sign-up", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-Forwarded-For", addr)
		r.Header.Set("X-Forwarded-Proto", "https")
		b.want(b.do(r), "sign up from "+addr, status)
	}
	for i := range signupRate.Burst {
		from(fmt.Sprintf("2001:db8:7:%d::1", i), http.StatusOK)
	}
	from("2001:db8:7:ff::1", http.StatusTooManyRequests)
	from("2001:db8:8::1", http.StatusOK)
	from("203.0.113.9", http.StatusOK)
}

// mailbox keeps what was sent.
type mailbox struct{ sent []string }

func (m *mailbox) Send(_ context.Context, to, subject, text string) error {
	m.sent = append(m.sent, to+"\n"+subject+"\n"+text)
	return nil
}

// letterOf is the mail to who signed up now.
func (h *house) letterOf(m *mailbox, name, email string) string {
	h.t.Helper()
	m.sent = nil
	h.browser().post("/sign-up", url.Values{"name": {name}, "email": {email}}, http.StatusOK)
	l := <-h.site.letters
	h.site.deliver(h.t.Context(), &l)
	if len(m.sent) != 1 || !strings.HasPrefix(m.sent[0], email+"\n") {
		h.t.Fatalf("sent %q", m.sent)
	}
	return m.sent[0]
}

// TestMail: the mail has the link, the link wants a password.
func TestMail(t *testing.T) {
	box := &mailbox{}
	h := newHouse(t, func(c *Config) { c.SignUp, c.Mailer = Mail, box })
	b := h.browser()
	one, two := h.letterOf(box, "alice", "alice@example.net"), h.letterOf(box, "other", "alice@example.net")
	link := linkIn.FindStringSubmatch(one)
	h.has(one, "Confirm your e-mail address", "alice")
	secret := strings.TrimPrefix(link[1], "/welcome?secret=")
	for range 2 { // a program that looks at links uses nothing up
		h.has(b.get(link[1], http.StatusOK), "Choose a password for")
	}
	for _, tt := range []struct{ new, again, want string }{
		{password, "x", "not the same"}, {"short", "short", "fewer than 8"}, {"", "", "fewer than 8"},
	} {
		h.has(b.post("/welcome", url.Values{"secret": {secret}, "new": {tt.new}, "again": {tt.again}}, 422), tt.want)
	}
	good := url.Values{"secret": {secret}, "new": {password}, "again": {password}}
	page := b.post("/welcome", good, http.StatusOK)
	if h.has(page, "is yours", "sixin4 connect"); strings.Contains(page, password) {
		t.Error("the page shows the password that was chosen")
	}
	b.post("/welcome", good, http.StatusNotFound)
	h.loggedIn("alice")

	late := linkIn.FindStringSubmatch(two)
	good.Set("secret", strings.TrimPrefix(late[1], "/welcome?secret="))
	h.has(b.post("/welcome", good, http.StatusConflict), "has an account already")
	h.has(h.letterOf(box, "third", "alice@example.net"), "Your account", "of the name alice", "/login")
	h.site.mails.Give("alice@example.net")
	if text := h.letterOf(box, "alice", "bob@example.net"); linkIn.MatchString(text) {
		t.Errorf("a link for a name that is taken: %s", text)
	} else {
		h.has(text, "Choose another name", "/sign-up")
	}
}

// TestOneAccount: of several links to one e-mail, followed at the same time at two brokers
// with one store, one makes an account.
func TestOneAccount(t *testing.T) {
	box := &mailbox{}
	h := newHouse(t, func(c *Config) { c.SignUp, c.Mailer = Mail, box })
	second, err := New(h.site.config)
	if err != nil {
		t.Fatal(err)
	}
	const links = 4
	start, results := make(chan bool), make(chan error, links)
	for i := range links {
		h.site.mails.Give("alice@example.net")
		secret := strings.TrimPrefix(linkIn.FindStringSubmatch(h.letterOf(box, fmt.Sprintf("alice%d", i), "alice@example.net"))[1], "/welcome?secret=")
		v, err := h.store.SignupByToken(t.Context(), hashSecret(secret))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-start
			_, err := []*Site{h.site, second}[i%2].redeem(t.Context(), v, password)
			results <- err
		}()
	}
	close(start)
	made := 0
	for range links {
		if err := <-results; err == nil {
			made++
		} else if !errors.Is(err, store.ErrEmail) {
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("%d accounts, want one", made)
	}
}

// TestMailLimit: an address that somebody gives again and again gets no more.
func TestMailLimit(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.SignUp, c.Mailer = Mail, &mailbox{} })
	for range mailRate.Burst + 2 {
		h.browser().post("/sign-up", url.Values{"name": {"alice"}, "email": {"alice@example.net"}}, http.StatusOK)
	}
	if n := len(h.site.letters); n != mailRate.Burst {
		t.Errorf("%d letters, want %d", n, mailRate.Burst)
	}
}

func TestManyLetters(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.SignUp, c.Mailer = Mail, &mailbox{} })
	for range maxLetters {
		h.site.letters <- letter{}
	}
	b := h.browser()
	b.post("/sign-up", url.Values{"name": {"alice"}, "email": {"alice@example.net"}}, http.StatusServiceUnavailable)
}

// TestNameMeanwhile: the name was free when somebody was approved.
func TestNameMeanwhile(t *testing.T) {
	h := newHouse(t, nil)
	secret := strings.Repeat("A", 26)
	v, err := h.store.AddSignup(t.Context(), store.Signup{Name: "alice", Token: hashSecret(secret), Expires: time.Now().Add(time.Hour)})
	if err == nil {
		_, err = h.store.ApproveSignup(t.Context(), v)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.addUser("alice", nil)
	h.has(h.browser().post("/welcome", url.Values{"secret": {secret}}, http.StatusConflict), "taken this name")
	if _, err := h.store.UserByName(t.Context(), "alice"); errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}
