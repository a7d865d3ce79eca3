package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/wneessen/go-mail"

	"sixin4/tsp/broker/store"
)

// Mailer sends mails, for several goroutines at a time.
type Mailer interface {
	// Send sends a text to one address. An error that wraps ErrRefused is final.
	Send(ctx context.Context, to, subject, text string) error
}

// ErrRefused: the mail server does not take a mail, and will not later.
var ErrRefused = errors.New("refused for good")

// TLSMode is how a mail server is spoken to.
type TLSMode string

// The modes.
const (
	StartTLS TLSMode = "starttls" // TLS after a plain greeting, or nothing (RFC 3207)
	TLS      TLSMode = "tls"      // TLS from the first byte (RFC 8314)
	NoTLS    TLSMode = "none"     // in the clear, for a server on this host
)

// SMTP is a mail server (RFC 5321).
type SMTP struct {
	Host string
	Port int    // 0 means 587, or 465 with TLS, or 25 with NoTLS
	From string // the sender, like broker@example.net
	// User logs in there when it is not empty (RFC 4954).
	User, Password string
	TLS            TLSMode       // empty means StartTLS
	Timeout        time.Duration // for a mail; 0 means 30 s
	Config         *tls.Config   // nil: the usual one
}

// Send sends a mail.
func (m SMTP) Send(ctx context.Context, to, subject, text string) error {
	var opened net.Conn
	c, err := m.client(&opened)
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	msg, err := m.message(to, subject, text)
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout())
	defer cancel()
	defer func() {
		if opened != nil {
			_ = opened.Close() // the client leaves it open when there is an error
		}
	}()
	if err := c.DialAndSendWithContext(ctx, msg); err != nil {
		if e := (*mail.SendError)(nil); errors.As(err, &e) && e.ErrorCode() >= 500 && !e.IsTemp() {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return fmt.Errorf("mail by %s: %w", m.Host, err)
	}
	return nil
}

func (m SMTP) timeout() time.Duration {
	if m.Timeout == 0 {
		return 30 * time.Second
	}
	return m.Timeout
}

// client makes a client, which notes the connection that it opens.
func (m SMTP) client(opened *net.Conn) (*mail.Client, error) {
	options := []mail.Option{mail.WithTimeout(m.timeout())}
	port := 587
	switch m.TLS {
	case TLS:
		port = 465
		options = append(options, mail.WithSSL())
	case NoTLS:
		port = 25
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if m.Port != 0 {
		port = m.Port
	}
	options = append(options, mail.WithPort(port))
	if m.TLS != TLS {
		options = append(options, mail.WithDialContextFunc(func(ctx context.Context, network, address string) (c net.Conn, err error) {
			c, err = (&net.Dialer{}).DialContext(ctx, network, address)
			*opened = c
			return c, err
		}))
	}
	if m.Config != nil {
		options = append(options, mail.WithTLSConfig(m.Config))
	}
	if m.User != "" {
		options = append(options, mail.WithSMTPAuth(m.auth()), mail.WithUsername(m.User), mail.WithPassword(m.Password))
	}
	return mail.NewClient(m.Host, options...)
}

// auth is the best that the server has; without TLS it is one that the user has asked
// for by NoTLS.
func (m SMTP) auth() mail.SMTPAuthType {
	if m.TLS == NoTLS {
		return mail.SMTPAuthPlainNoEnc
	}
	return mail.SMTPAuthAutoDiscover
}

func (m SMTP) message(to, subject, text string) (*mail.Msg, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := msg.From(m.From); err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	if err := msg.To(to); err != nil {
		return nil, fmt.Errorf("recipient: %w", err)
	}
	msg.Subject(subject)
	msg.SetDate()
	msg.SetMessageID()
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no holiday answers
	msg.SetBodyString(mail.TypeTextPlain, text)
	return msg, nil
}

// letter is a mail that is to be written: to who signs up, or to who forgot a password.
type letter struct {
	name, email, secret string
	forgot              string // what was typed, a name or an e-mail; empty for who signs up

	tried int       // how often
	due   time.Time // for another try
}

const (
	maxLetters = 256         // wait at most for their first try, and as many for another
	postmen    = 4           // send mails at a time: a server takes its time for odd addresses
	againTime  = time.Second // between looks at what is due
)

var errBusy = errors.New("too many mails wait")

// post has a mail sent. An address that has got enough gets no more, which looks the
// same from outside. Whose password is forgotten is found out later.
func (s *Site) post(l letter) error {
	if l.forgot == "" && !s.mails.Take(time.Now(), l.email) {
		return nil
	}
	select {
	case s.letters <- l:
		return nil
	default:
		return errBusy
	}
}

// tries are how long to wait before each try to send a mail: servers that see a sender
// the first time may say later.
var tries = []time.Duration{0, 10 * time.Second, time.Minute}

// postman sends mails until ctx ends. What is to be tried again keeps nothing else
// waiting.
func (s *Site) postman(ctx context.Context) {
	var again []letter
	look := time.NewTicker(againTime)
	defer look.Stop()
	for {
		var l letter
		select {
		case <-ctx.Done():
			return
		case l = <-s.letters:
		case now := <-look.C:
			i := slices.IndexFunc(again, func(l letter) bool { return !l.due.After(now) })
			if i < 0 {
				continue
			}
			l = again[i]
			again = slices.Delete(again, i, i+1)
		}
		if !s.deliver(ctx, &l) && len(again) < maxLetters/postmen {
			again = append(again, l)
		}
	}
}

// deliver tries to send a mail, and reports whether that is all that can be done for it.
func (s *Site) deliver(ctx context.Context, l *letter) bool {
	if l.forgot != "" && l.email == "" {
		if found, err := s.address(ctx, l); !found {
			if err != nil {
				s.config.Logger.Error("a mail was not written", "error", err)
			}
			return true
		}
	}
	subject, text, err := s.compose(ctx, *l)
	if err != nil {
		s.config.Logger.Error("a mail was not written", "user", l.name, "error", err)
		return true
	}
	if err = s.config.Mailer.Send(ctx, l.email, subject, text); err == nil || ctx.Err() != nil {
		return true
	}
	s.config.Logger.Warn("a mail was not sent", "user", l.name, "error", err)
	if l.tried++; l.tried == len(tries) || errors.Is(err, ErrRefused) {
		return true
	}
	l.due = time.Now().Add(tries[l.tried])
	return false
}

// compose says what only who reads this mail may know: whether the e-mail or the name
// has an account.
func (s *Site) compose(ctx context.Context, l letter) (subject, text string, err error) {
	if l.forgot != "" {
		return "Choose another password", s.body("has forgotten the password of "+l.name+" at", "Choose another one here. The link works once, for an hour:",
			resetPath(l.secret)), nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	known, err := s.config.Store.UserByEmail(ctx, l.email)
	if err == nil {
		return "Your account", s.body(signedUp, "This e-mail address has an account already, of the name "+known.Name+".\nLog in here:", "/login"), nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return "", "", err
	}
	_, err = s.config.Store.UserByName(ctx, l.name)
	if err == nil {
		return "Choose another name", s.body(signedUp, "The name "+l.name+" belongs to somebody else.\nSign up with another one:", "/sign-up"), nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return "", "", err
	}
	return "Confirm your e-mail address", s.body(signedUp, "Follow this link to have an account of the name "+l.name+
		" and choose a password.\nIt works once, for a day:", welcomePath(l.secret)), nil
}

const signedUp = "has signed up for an IPv6 tunnel at"

// body is the text of a mail with a link.
func (s *Site) body(done, what, path string) string {
	return "Hello,\n\nsomebody, most likely you, " + done + " " + s.config.URL.Host + ".\n" +
		what + "\n\n    " + s.config.URL.String() + path + "\n\n" +
		"If it was not you, forget this mail: nothing happens without you.\n"
}
