package web

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// mailServer speaks as much SMTP as a client needs (RFC 5321), and keeps what it got.
type mailServer struct {
	t        *testing.T
	listener net.Listener
	tls      *tls.Config // for STARTTLS, or from the first byte
	implicit bool
	refuse   string // answer to RCPT; empty takes all

	got chan received
}

// received is a mail with its envelope.
type received struct {
	from, to, auth string
	encrypted      bool
	data           string
}

func newMailServer(t *testing.T, change func(*mailServer)) *mailServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mailServer{t: t, listener: l, got: make(chan received, 4)}
	if change != nil {
		change(m)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // a client that hangs fails its test
			m.serve(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return m
}

func (m *mailServer) port() int { return m.listener.Addr().(*net.TCPAddr).Port }

// serve is one session.
func (m *mailServer) serve(c net.Conn) {
	var v received
	if m.implicit {
		c, v.encrypted = tls.Server(c, m.tls), true
	}
	in := bufio.NewReader(c)
	say := func(text string) { fmt.Fprintf(c, "%s\r\n", text) }
	say("220 mail.example.net")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			say("250-mail.example.net")
			if m.tls != nil && !v.encrypted {
				say("250-STARTTLS")
			}
			say("250 AUTH PLAIN")
		case "STARTTLS":
			say("220 go on")
			c, v.encrypted = tls.Server(c, m.tls), true
			in = bufio.NewReader(c)
		case "AUTH":
			_, text, _ := strings.Cut(rest, " ")
			plain, _ := base64.StdEncoding.DecodeString(text)
			v.auth = strings.ReplaceAll(string(plain), "\x00", "|")
			say("235 welcome")
		case "MAIL":
			v.from = rest
			say("250 ok")
		case "RCPT":
			if v.to = rest; m.refuse != "" {
				say(m.refuse)
				continue
			}
			say("250 ok")
		case "DATA":
			say("354 go on")
			for {
				line, err := in.ReadString('\n')
				if err != nil || line == ".\r\n" {
					break
				}
				v.data += line
			}
			m.got <- v
			say("250 ok")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// text is the decoded body of a mail.
func (v received) text(t *testing.T) (subject, body string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(v.data))
	if err != nil {
		t.Fatalf("%v in %q", err, v.data)
	}
	var from io.Reader = m.Body
	if m.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
		from = quotedprintable.NewReader(m.Body)
	}
	text, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	return m.Header.Get("Subject"), string(text)
}

func TestSMTP(t *testing.T) {
	cert, key, pool := pair(t, t.TempDir(), "mail")
	config, err := Certificate(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		mode     TLSMode
		user     string
		tls      *tls.Config
		implicit bool
		auth     string
		fails    string
	}{
		{"starttls", StartTLS, "broker", config, false, "|broker|mail-password", ""},
		{"default", "", "", config, false, "", ""},
		{"tls", TLS, "broker", config, true, "|broker|mail-password", ""},
		{"none", NoTLS, "broker", nil, false, "|broker|mail-password", ""},
		{"starttls that is not there", StartTLS, "", nil, false, "", "STARTTLS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMailServer(t, func(m *mailServer) { m.tls, m.implicit = tt.tls, tt.implicit })
			s := SMTP{
				Host: "127.0.0.1", Port: m.port(), From: "broker@example.net", User: tt.user, Password: "mail-password",
				TLS: tt.mode, Config: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"},
			}
			err := s.Send(t.Context(), "alice@example.net", "Grüße", "Hello,\n\n    https://example.net/x?y=z\n")
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("error %v, want %s", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			v := <-m.got
			if !strings.HasPrefix(v.from, "FROM:<broker@example.net>") || v.to != "TO:<alice@example.net>" || v.auth != tt.auth || v.encrypted != (tt.tls != nil) {
				t.Errorf("%+v", v)
			}
			if _, body := v.text(t); !strings.Contains(body, "https://example.net/x?y=z") || !strings.Contains(v.data, "Auto-Submitted: auto-generated") {
				t.Errorf("data %s", v.data)
			}
		})
	}
}

func TestSMTPRefused(t *testing.T) {
	m := newMailServer(t, func(m *mailServer) { m.refuse = "550 no such user" })
	s := SMTP{Host: "127.0.0.1", Port: m.port(), From: "broker@example.net", TLS: NoTLS}
	if err := s.Send(t.Context(), "alice@example.net", "x", "y"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no such user") {
		t.Error(err)
	}
	m = newMailServer(t, func(m *mailServer) { m.refuse = "450 come back later" })
	s.Port = m.port()
	if err := s.Send(t.Context(), "alice@example.net", "x", "y"); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("put off: %v", err)
	}
	for _, bad := range []SMTP{{Host: "127.0.0.1", From: "nobody"}, {From: "broker@example.net"}} {
		if err := bad.Send(t.Context(), "alice@example.net", "x", "y"); err == nil {
			t.Errorf("%+v has sent", bad)
		}
	}
	if err := s.Send(t.Context(), "alice@example.net\r\nBcc: eve@example.net", "x", "y"); err == nil {
		t.Error("two recipients")
	}
}

// TestSignUpByMail is the whole way, through a mail server and a running site.
func TestSignUpByMail(t *testing.T) {
	m := newMailServer(t, nil)
	h := newHouse(t, func(c *Config) {
		c.SignUp, c.Mailer = Mail, SMTP{Host: "127.0.0.1", Port: m.port(), From: "broker@example.net", TLS: NoTLS}
	})
	h.run(nil)
	b := h.browser()
	b.post("/sign-up", url.Values{"name": {"alice"}, "email": {"Alice@example.net"}}, http.StatusOK)
	v := <-m.got
	subject, body := v.text(t)
	link := linkIn.FindStringSubmatch(body)
	if v.to != "TO:<alice@example.net>" || subject != "Confirm your e-mail address" || link == nil {
		t.Fatalf("to %s: %s\n%s", v.to, subject, body)
	}
	b.get(link[1], http.StatusOK)
	secret := strings.TrimPrefix(link[1], "/welcome?secret=")
	b.post("/welcome", url.Values{"secret": {secret}, "new": {password}, "again": {password}}, http.StatusOK)
	h.loggedIn("alice")
}

// flaky fails for the first address, some times.
type flaky struct {
	fails int
	err   error
	at    []time.Duration // of the tries for the first address
	other time.Duration   // when the other had its mail
	begun time.Time
}

func (f *flaky) Send(_ context.Context, to, _, _ string) error {
	if to != "first@example.net" {
		f.other = time.Since(f.begun)
		return nil
	}
	if f.at = append(f.at, time.Since(f.begun)); len(f.at) <= f.fails {
		return f.err
	}
	return nil
}

// TestDeliver: a server that says later is asked again, and not for ever, nor when it
// says never. Other mails do not wait for that.
func TestDeliver(t *testing.T) {
	later := errors.New("later")
	for _, tt := range []struct {
		name  string
		fails int
		err   error
		tries []time.Duration
	}{
		{"at once", 0, later, []time.Duration{0}},
		{"the third time", 2, later, []time.Duration{0, 10 * time.Second, 70 * time.Second}},
		{"not at all", 9, later, []time.Duration{0, 10 * time.Second, 70 * time.Second}},
		{"refused", 9, fmt.Errorf("%w: no such user", ErrRefused), []time.Duration{0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &flaky{fails: tt.fails, err: tt.err}
			h := newHouse(t, func(c *Config) { c.SignUp, c.Mailer = Mail, f })
			h.site.config.Store = noUsers{h.store}
			synctest.Test(t, func(t *testing.T) {
				f.begun, h.site.letters = time.Now(), make(chan letter, 2)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				h.site.letters <- letter{name: "first", email: "first@example.net"}
				h.site.letters <- letter{name: "other", email: "other@example.net"}
				h.site.postman(ctx)
			})
			if !slices.Equal(f.at, tt.tries) || f.other != 0 {
				t.Errorf("tries at %v, want %v; the other mail at %v", f.at, tt.tries, f.other)
			}
		})
	}
}
