package config

import (
	"net/netip"
	"net/url"
	"reflect"
	"testing"

	"sixin4/cmd/internal/exit"
)

// web is a broker with web pages on this host, and more flags.
func web(pairs ...string) Raw {
	return flags(append([]string{"prefix", anyPool, "web", "127.0.0.1:8080"}, pairs...)...)
}

func TestWeb(t *testing.T) {
	local := netip.MustParseAddrPort("127.0.0.1:8080")
	http, https := &url.URL{Scheme: "http", Host: "127.0.0.1:8080"}, &url.URL{Scheme: "https", Host: "broker.example.net"}
	for _, tt := range []struct {
		name string
		raw  Raw
		want Site
	}{
		{"none", flags("prefix", anyPool), Site{}},
		{"this host", web(), Site{Listen: local, URL: http, SignUp: "approve", PrefixLen: 64, SMTP: SMTP{TLS: "starttls"}}},
		{"usual port", web("web", "::1"), Site{
			Listen: netip.MustParseAddrPort("[::1]:8080"), URL: &url.URL{Scheme: "http", Host: "[::1]:8080"},
			SignUp: "approve", PrefixLen: 64, SMTP: SMTP{TLS: "starttls"},
		}},
		{"certificate", web("web", "192.0.2.2:443", "web-cert", "c", "web-key", "k", "sign-up", "closed", "sign-up-prefix-length", "0"), Site{
			Listen: netip.MustParseAddrPort("192.0.2.2:443"), Cert: "c", Key: "k", URL: &url.URL{Scheme: "https", Host: "192.0.2.2"},
			SignUp: "closed", SMTP: SMTP{TLS: "starttls"},
		}},
		{"proxy and mail", web("web", "0.0.0.0:8080", "web-proxy", "192.0.2.80", "web-url", "https://Broker.example.net/",
			"smtp-server", "mail.example.net:25", "smtp-from", "b@example.net", "smtp-user", "b", "smtp-password-file", "p", "smtp-tls", "none"), Site{
			Listen: netip.MustParseAddrPort("0.0.0.0:8080"), Proxies: []netip.Addr{netip.MustParseAddr("192.0.2.80")}, URL: https,
			SignUp: "mail", PrefixLen: 64,
			SMTP: SMTP{Host: "mail.example.net", Port: 25, From: "b@example.net", User: "b", PasswordFile: "p", TLS: "none"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := CheckBroker(tt.raw)
			if err != nil || !reflect.DeepEqual(got.Web, tt.want) {
				t.Errorf("%+v, %v\nwant %+v", got.Web, err, tt.want)
			}
		})
	}
}

func TestBadWeb(t *testing.T) {
	const notAddress = "not an address of this host with a port, like 127.0.0.1:8080"
	for _, tt := range []struct {
		name string
		raw  Raw
		want string
	}{
		{"no pages", flags("prefix", anyPool, "sign-up", "mail"), "--sign-up mail: there are no web pages; they need --web ADDRESS"},
		{"port alone", web("web", ":8080"), "--web :8080: " + notAddress},
		{"port 0", web("web", "127.0.0.1:0"), "--web 127.0.0.1:0: " + notAddress},
		{"name", web("web", "localhost"), "--web localhost: " + notAddress},
		{"plain for others", web("web", "192.0.2.2:80"), "--web 192.0.2.2:80: others than this host come there, and passwords with them: " +
			"give --web-cert and --web-key, or --web-proxy with the address of the reverse proxy that has them"},
		{"certificate without key", web("web-cert", "c"), "--web-cert c: needs --web-key too"},
		{"key without certificate", web("web-key", "k"), "--web-key k: needs --web-cert too"},
		{"everywhere without a name", web("web", "0.0.0.0:443", "web-cert", "c", "web-key", "k"),
			"--web 0.0.0.0:443: where people find the pages is not known; give --web-url https://NAME"},
		{"URL of ftp", web("web-url", "ftp://x"), "--web-url ftp://x: not a URL of http or https, like https://broker.example.net"},
		{"URL without host", web("web-url", "https://:80"), "--web-url https://:80: not a URL of http or https, like https://broker.example.net"},
		{"URL with a path", web("web-url", "https://x/y"), "--web-url https://x/y: has more than a host and a port; the pages are at the top, like https://broker.example.net"},
		{"http with a certificate", web("web-cert", "c", "web-key", "k", "web-url", "http://x"), "--web-url http://x: with a certificate it begins with https"},
		{"proxy of no name", web("web-proxy", "127.0.0.1"), "--web-proxy 127.0.0.1: where people find the proxy is not known; give --web-url https://NAME"},
		{"proxy name", web("web-proxy", "nginx"), "--web-proxy nginx: not an address; that of the reverse proxy belongs here, like 127.0.0.1"},
		{"sign-up word", web("sign-up", "open"), "--sign-up open: closed, approve or mail"},
		{"sign-up by mail without a server", web("sign-up", "mail"), "--sign-up mail: needs a mail server; give --smtp-server HOST"},
		{"prefix of who signs up", web("sign-up-prefix-length", "65"), "--sign-up-prefix-length 65: out of range; 48 to 64, or 0 for no prefix"},
		{"no sender", web("smtp-server", "m.example.net"), "--smtp-server m.example.net: who the mails are from is not known; give --smtp-from broker@example.net"},
		{"bad sender", web("smtp-server", "m.example.net", "smtp-from", "me"), "--smtp-from me: not an e-mail address, like broker@example.net"},
		{"no password", web("smtp-server", "m.example.net", "smtp-from", "b@example.net", "smtp-user", "b"), "--smtp-user b: needs a password; give --smtp-password-file FILE"},
		{"mail port", web("smtp-server", "m.example.net:0"), `--smtp-server m.example.net:0: port "0": out of range; 1 to 65535, like mail.example.net or mail.example.net:587`},
		{"mail server", web("smtp-server", "a b"), `--smtp-server "a b": not the name of a host, like mail.example.net or mail.example.net:587`},
		{"mail TLS without pages", flags("prefix", anyPool, "smtp-tls", "foo"), "--smtp-tls foo: starttls, tls or none"},
		{"sender without pages", flags("prefix", anyPool, "smtp-from", "x"), "--smtp-from x: not an e-mail address, like broker@example.net"},
		{"sender without a server", web("smtp-from", "x"), "--smtp-from x: not an e-mail address, like broker@example.net"},
		{"mail user without a server", web("smtp-user", ""), `--smtp-user "": empty; the name of an account belongs here`},
		{"mail password without a server", web("smtp-password-file", ""), `--smtp-password-file "": empty; the path of a file belongs here`},
		{"prefix of nobody", flags("prefix", anyPool, "sign-up-prefix-length", "-1"),
			"--sign-up-prefix-length -1: out of range; 48 to 64, or 0 for no prefix"},
		{"mail TLS", web("smtp-tls", "ssl"), "--smtp-tls ssl: starttls, tls or none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := CheckBroker(tt.raw)
			wantError(t, err, tt.want, exit.Usage)
		})
	}
}
