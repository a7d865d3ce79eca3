package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"strings"

	"sixin4/cmd/internal/exit"
)

// DefaultWebPort is where the web pages are, unless another port is given.
const DefaultWebPort = 8080

const likeWeb = "like 127.0.0.1:8080"

// Site is the checked configuration of a broker's web pages.
type Site struct {
	Listen netip.AddrPort // where; not valid for no pages
	// Cert and Key are paths of PEM files; both empty for plain http, which is for this
	// host or the proxies only.
	Cert, Key string
	URL       *url.URL     // where people find the pages: http or https, without a path
	Proxies   []netip.Addr // reverse proxies

	SignUp    string // "closed", "approve" or "mail"
	PrefixLen int    // of users who sign up: 48 to 64, 0 for no prefix
	SMTP      SMTP   // zero for no mails
}

// SMTP is a mail server.
type SMTP struct {
	Host         string // empty for none
	Port         int    // 0 for the usual one
	From         string
	User         string // empty for no login
	PasswordFile string // not read yet; never empty with a user
	TLS          string // "starttls", "tls" or "none"
}

// Password reads the password. warning is what is no error and should still be known,
// empty for nothing. The exit status of errors is 78, or 77 when the file may not be
// read.
func (m SMTP) Password() (s Secret, warning string, err error) {
	if m.PasswordFile == "" {
		return Secret{}, "", nil
	}
	text, mode, err := readPassword(m.PasswordFile)
	if err != nil {
		code := exit.Config
		if errors.Is(err, fs.ErrPermission) {
			code = exit.Permission
		}
		return Secret{}, "", exit.With(code, fmt.Errorf("smtp-password-file %s: %w", shown(m.PasswordFile), err))
	}
	if isOpen(mode) {
		warning = openFile(m.PasswordFile)
	}
	return NewSecret(text), warning, nil
}

// The values of SignUp and SMTPTLS.
var (
	signUps  = []string{"closed", "approve", "mail"}
	smtpTLSs = []string{"starttls", "tls", "none"}
)

// checkWebForms checks what would otherwise be looked at only beside a value that it needs.
func (b *Broker) checkWebForms() error {
	for _, f := range []struct {
		key   Key
		parse func(string) error
	}{
		{SMTPTLS, form(oneOf(smtpTLSs))}, {SMTPFrom, form(parseMailAddress)}, {SMTPUser, form(parseUser)},
		{SMTPPassword, form(parsePath)}, {SignUpPrefix, form(parsePrefixLen)},
	} {
		if v, given := b.raw.last(f.key); given {
			if err := f.parse(v.Text); err != nil {
				return invalid(f.key, v, err.Error())
			}
		}
	}
	return nil
}

// form is parse for those who want nothing but its error.
func form[T any](parse func(string) (T, error)) func(string) error {
	return func(s string) error { _, err := parse(s); return err }
}

// checkWeb checks the web pages, if there are to be any.
func (b *Broker) checkWeb() error {
	if err := b.checkWebForms(); err != nil {
		return err
	}
	if !b.raw.Has(Web) {
		for _, key := range []Key{WebCert, WebKey, WebURL, WebProxy, SignUp, SMTPServer} {
			if b.raw.Has(key) {
				return b.Invalid(key, "there are no web pages; they need --web ADDRESS")
			}
		}
		return nil
	}
	for _, step := range []func() error{b.checkWebListen, b.checkWebFiles, b.checkWebURL, b.checkSMTP, b.checkSignUp} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (b *Broker) checkWebListen() (err error) {
	if b.Web.Listen, err = one(b.raw, Web, "", parseWeb); err != nil {
		return err
	}
	b.Web.Proxies, err = each(b.raw, WebProxy, parseProxy)
	return err
}

// parseWeb parses an address of this host with or without a port.
func parseWeb(s string) (netip.AddrPort, error) {
	if at, err := netip.ParseAddrPort(s); err == nil && at.Port() != 0 && !at.Addr().IsMulticast() {
		return at, nil
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && !a.IsMulticast() {
		return netip.AddrPortFrom(a, DefaultWebPort), nil
	}
	return netip.AddrPort{}, errors.New("not an address of this host with a port, " + likeWeb)
}

func parseProxy(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, errors.New("not an address; that of the reverse proxy belongs here, like 127.0.0.1")
	}
	return a.Unmap(), nil
}

// checkWebFiles wants a certificate where others than this host come to.
func (b *Broker) checkWebFiles() (err error) {
	for _, f := range []struct {
		key, other Key
		to         *string
	}{{WebCert, WebKey, &b.Web.Cert}, {WebKey, WebCert, &b.Web.Key}} {
		if !b.raw.Has(f.key) {
			continue
		}
		if *f.to, err = one(b.raw, f.key, "", parsePath); err != nil {
			return err
		}
		if !b.raw.Has(f.other) {
			return b.Invalid(f.key, fmt.Sprintf("needs --%s too", f.other))
		}
	}
	if b.Web.Cert == "" && !b.Web.Listen.Addr().IsLoopback() && len(b.Web.Proxies) == 0 {
		return b.Invalid(Web, "others than this host come there, and passwords with them: give --web-cert and --web-key, "+
			"or --web-proxy with the address of the reverse proxy that has them")
	}
	return nil
}

func (b *Broker) checkWebURL() (err error) {
	if b.raw.Has(WebURL) {
		b.Web.URL, err = one(b.raw, WebURL, "", parseWebURL)
		if err == nil && b.Web.Cert != "" && b.Web.URL.Scheme != "https" {
			return b.Invalid(WebURL, "with a certificate it begins with https")
		}
		return err
	}
	if len(b.Web.Proxies) > 0 {
		return b.Invalid(WebProxy, "where people find the proxy is not known; give --web-url https://NAME")
	}
	if b.Web.Listen.Addr().IsUnspecified() {
		return b.Invalid(Web, "where people find the pages is not known; give --web-url https://NAME")
	}
	b.Web.URL = &url.URL{Scheme: "http", Host: b.Web.Listen.String()}
	usual := uint16(80)
	if b.Web.Cert != "" {
		b.Web.URL.Scheme, usual = "https", 443
	}
	if b.Web.Listen.Port() == usual {
		b.Web.URL.Host = strings.TrimSuffix(b.Web.URL.Host, fmt.Sprintf(":%d", usual))
	}
	return nil
}

func parseWebURL(s string) (*url.URL, error) {
	const right = "like https://broker.example.net"
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("not a URL of http or https, " + right)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("has more than a host and a port; the pages are at the top, " + right)
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}, nil
}

func (b *Broker) checkSMTP() (err error) {
	m := &b.Web.SMTP
	if m.TLS, err = one(b.raw, SMTPTLS, "starttls", oneOf(smtpTLSs)); err != nil || !b.raw.Has(SMTPServer) {
		return err
	}
	server, err := one(b.raw, SMTPServer, "", parseSMTPServer)
	if err != nil {
		return err
	}
	m.Host, m.Port = server.host, server.port
	if !b.raw.Has(SMTPFrom) {
		return b.Invalid(SMTPServer, "who the mails are from is not known; give --smtp-from broker@example.net")
	}
	if m.From, err = one(b.raw, SMTPFrom, "", parseMailAddress); err != nil || !b.raw.Has(SMTPUser) {
		return err
	}
	if m.User, err = one(b.raw, SMTPUser, "", parseUser); err != nil {
		return err
	}
	if !b.raw.Has(SMTPPassword) {
		return b.Invalid(SMTPUser, "needs a password; give --smtp-password-file FILE")
	}
	m.PasswordFile, err = one(b.raw, SMTPPassword, "", parsePath)
	return err
}

func oneOf(known []string) func(string) (string, error) {
	return func(s string) (string, error) {
		for _, k := range known {
			if s == k {
				return s, nil
			}
		}
		return "", fmt.Errorf("%s, %s or %s", known[0], known[1], known[2])
	}
}

type smtpServer struct {
	host string
	port int
}

func parseSMTPServer(s string) (smtpServer, error) {
	const right = "like mail.example.net or mail.example.net:587"
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), ""
	}
	if _, err := netip.ParseAddr(host); err != nil && (host == "" || notDomain(host) != "") {
		return smtpServer{}, errors.New("not the name of a host, " + right)
	}
	if port == "" {
		return smtpServer{host: host}, nil
	}
	n, err := parseNumber(port, 1, 65535, "1 to 65535, "+right)
	if err != nil {
		return smtpServer{}, fmt.Errorf("port %s: %w", inQuotes(port), err)
	}
	return smtpServer{host, n}, nil
}

func parseMailAddress(s string) (string, error) {
	if a, err := mail.ParseAddress(s); err != nil || a.Address != s {
		return "", errors.New("not an e-mail address, like broker@example.net")
	}
	return s, nil
}

// checkSignUp: without a mail server it is the operator who says who is let in.
func (b *Broker) checkSignUp() (err error) {
	usual := "approve"
	if b.Web.SMTP.Host != "" {
		usual = "mail"
	}
	if b.Web.SignUp, err = one(b.raw, SignUp, usual, oneOf(signUps)); err != nil {
		return err
	}
	if b.Web.SignUp == "mail" && b.Web.SMTP.Host == "" {
		return b.Invalid(SignUp, "needs a mail server; give --smtp-server HOST")
	}
	b.Web.PrefixLen, err = one(b.raw, SignUpPrefix, "64", parsePrefixLen)
	return err
}
