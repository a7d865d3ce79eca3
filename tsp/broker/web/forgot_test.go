package web

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

var resetIn = regexp.MustCompile(`https?://broker\.example\.net(/reset\?secret=[A-Z2-7]{26})`)

// forgetful is a house with a mail server and a user who has confirmed an e-mail.
func forgetful(t *testing.T) (*house, *mailbox) {
	box := &mailbox{}
	h := newHouse(t, func(c *Config) { c.Mailer = box })
	h.addUser("alice", func(u *store.User) {
		digest := sasl.NewDigest("alice", "sixin4", password)
		u.Email, u.Confirmed, u.Legacy, u.Digest = "alice@example.net", true, true, &digest
	})
	return h, box
}

// forget asks for a link, and returns the mails that are sent.
func (h *house) forget(box *mailbox, who string) []string {
	h.t.Helper()
	box.sent = nil
	h.site.forgots.Give(account.SourceOf(netip.MustParseAddr("127.0.0.1")))
	h.has(h.browser().post("/forgot", url.Values{"who": {who}}, http.StatusOK), "If there is such an account")
	l := <-h.site.letters
	if !h.site.deliver(h.t.Context(), &l) {
		h.t.Error("to be tried again")
	}
	return box.sent
}

// TestForgot: the link changes the password once, for logins of all kinds, and ends
// sessions and other links.
func TestForgot(t *testing.T) {
	h, box := forgetful(t)
	b := h.loggedIn("alice")
	first := h.forget(box, "alice")
	if len(first) != 1 || !strings.HasPrefix(first[0], "alice@example.net\nChoose another password\n") || strings.Contains(first[0], "signed up") {
		t.Fatalf("by name: %q", first)
	}
	mails := h.forget(box, " Alice@Example.net ")
	link := resetIn.FindStringSubmatch(mails[0])
	secret := strings.TrimPrefix(link[1], "/reset?secret=")
	for range 2 { // a program that looks at links uses nothing up
		h.has(b.get(link[1], http.StatusOK), "alice", "Choose another password")
	}
	const fresh = "another-good-password"
	h.has(b.post("/reset", url.Values{"secret": {secret}, "new": {fresh}, "again": {"x"}}, 422), "not the same")
	h.has(b.post("/reset", url.Values{"secret": {secret}, "new": {"short"}, "again": {"short"}}, 422), "fewer than 8")
	good := url.Values{"secret": {secret}, "new": {fresh}, "again": {fresh}}
	to := b.post("/reset", good, http.StatusSeeOther)
	h.has(h.browser().get(to, http.StatusOK), notices["reset"])
	b.get("/tunnel", http.StatusSeeOther)
	b.post("/reset", good, http.StatusNotFound)
	b.get(link[1], http.StatusNotFound)
	h.has(b.get(resetIn.FindStringSubmatch(first[0])[1], http.StatusNotFound), "used already")
	b.post("/login", url.Values{"name": {"alice"}, "password": {password}}, http.StatusUnauthorized)
	b.post("/login", url.Values{"name": {"alice"}, "password": {fresh}}, http.StatusSeeOther)
	u, err := h.store.UserByName(t.Context(), "alice")
	if err != nil || u.Digest == nil || *u.Digest != sasl.NewDigest("alice", "sixin4", fresh) {
		t.Errorf("%+v, %v: want the digest of the new password", u, err)
	}
}

// TestForgotNobody: the answer is the same for who has no account, no e-mail, or one that
// was not confirmed; nothing is sent to them.
func TestForgotNobody(t *testing.T) {
	h, box := forgetful(t)
	h.addUser("bare", nil)
	h.addUser("typo", func(u *store.User) { u.Email = "typo@example.net" })
	h.addUser("disabled", func(u *store.User) { u.Email, u.Confirmed, u.Disabled = "disabled@example.net", true, true })
	answers := make(map[string]bool)
	for _, who := range []string{"alice", "bare", "typo", "typo@example.net", "disabled", "nobody", "nobody@example.net", "\xff", "\x00"} {
		sent := h.forget(box, who)
		if (len(sent) == 1) != (who == "alice") {
			t.Errorf("%q: sent %q", who, sent)
		}
		h.site.forgots.Give(account.SourceOf(netip.MustParseAddr("127.0.0.1")))
		page := h.browser().post("/forgot", url.Values{"who": {who}}, http.StatusOK)
		<-h.site.letters
		answers[tokenField.ReplaceAllString(page, "")] = true
	}
	if len(answers) != 1 {
		t.Errorf("%d different answers", len(answers))
	}
	h.browser().post("/forgot", url.Values{"who": {""}}, http.StatusUnprocessableEntity)
	h.browser().post("/forgot", url.Values{"who": {strings.Repeat("x", 255)}}, http.StatusUnprocessableEntity)
	h.has(h.browser().get("/reset?secret=x", http.StatusNotFound), "used already")
	h.browser().post("/reset", url.Values{"secret": {"x"}, "new": {password}, "again": {password}}, http.StatusNotFound)
}

// TestForgotLimit: one source asks so often, one user gets so many mails, so many wait.
func TestForgotLimit(t *testing.T) {
	h, box := forgetful(t)
	n := 0
	for range mailRate.Burst + 2 {
		n += len(h.forget(box, "alice"))
	}
	if n != mailRate.Burst {
		t.Errorf("%d mails, want %d", n, mailRate.Burst)
	}
	h, _ = forgetful(t)
	for range signupRate.Burst {
		h.browser().post("/forgot", url.Values{"who": {"alice"}}, http.StatusOK)
	}
	h.browser().post("/forgot", url.Values{"who": {"alice"}}, http.StatusTooManyRequests)
	h, _ = forgetful(t)
	for range maxLetters {
		h.site.letters <- letter{}
	}
	h.browser().post("/forgot", url.Values{"who": {"alice"}}, http.StatusServiceUnavailable)
}

// TestForgotWithoutMail: the page says who can help.
func TestForgotWithoutMail(t *testing.T) {
	h := newHouse(t, nil)
	h.has(h.browser().get("/login", http.StatusOK), `href="/forgot"`)
	h.has(h.browser().get("/forgot", http.StatusOK), "Ask its operator")
	h.has(h.browser().post("/forgot", url.Values{"who": {"alice"}}, http.StatusForbidden), "Ask its operator")
}

// TestSameGuesses: wrong passwords at the login, at /nic/update and in sessions of TSP
// count together.
func TestSameGuesses(t *testing.T) {
	limits := account.Limits{Iterations: testIterations, LookupTime: -1}
	shared := account.NewFailures(limits)
	h := newHouse(t, func(c *Config) { c.Failures = shared })
	h.addUser("alice", nil)
	tsp, err := account.New(account.Config{Accounts: accounts{h.store}, Limits: limits, Failures: shared})
	if err != nil {
		t.Fatal(err)
	}
	const from = "203.0.113.9"
	session := func(password string) error {
		l, err := tsp.Start(sasl.Plain, account.Source{Addr: netip.MustParseAddr(from)})
		if err == nil {
			_, _, err = l.Next(t.Context(), []byte("alice\x00"+password))
		}
		return err
	}
	for i := range 5 {
		if got := h.nic(from, "hostname=alice", "alice", fmt.Sprint(i)).Body.String(); got != "badauth\n" {
			t.Fatal(got)
		}
		if err := session(fmt.Sprint(i)); err == nil {
			t.Fatal("let in")
		}
	}
	if err := session(password); err == nil || !strings.Contains(err.Error(), account.ErrBusy.Error()) {
		t.Errorf("TSP: %v", err)
	}
	if got := h.nic(from, "hostname=alice", "alice", password).Body.String(); got != "911\n" {
		t.Errorf("update: %s", got)
	}
	_, err = h.site.check(t.Context(), visitor{source: netip.MustParseAddr(from)}, "alice", password)
	if status, _ := wrong(err); status != http.StatusTooManyRequests {
		t.Errorf("login: %d, %v", status, err)
	}
	if got := h.nic("203.0.113.10", "hostname=alice", "alice", password).Body.String(); got != "good 203.0.113.10\n" {
		t.Errorf("from elsewhere: %s", got)
	}
}
