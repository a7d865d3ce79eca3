package config

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"sixin4/tsp"
)

// ReferenceProxy is a configuration file of `sixin4 proxy` with every key, its
// default and what it means.
//
//go:embed reference-proxy.toml
var ReferenceProxy string

// The settings of `sixin4 proxy` alone.
const (
	SOCKS5            Key = "socks5"
	HTTPProxy         Key = "http"
	ProxyUser         Key = "proxy-user"
	ProxyPasswordFile Key = "proxy-password-file"
	PublishTCP        Key = "publish"
	DirectIPv4        Key = "direct-ipv4"
	MaxConnections    Key = "max-connections"
)

// proxyOrder is every setting of `sixin4 proxy`, as --help and the reference file
// have them.
var proxyOrder = []Key{
	Servers, Auth, User, PasswordFile,
	SOCKS5, HTTPProxy, ProxyUser, ProxyPasswordFile, PublishTCP, DirectIPv4, DNS, MaxConnections,
	Keepalive, RetryDelay, RetryMax, BrokerList, LastServer, AlwaysSame,
	MTU, Socket, LogFormat, Verbose,
}

// ReadProxy reads a TOML file whose keys are the flags of `sixin4 proxy`. Its errors
// are as those of ReadFile.
func ReadProxy(path string) (Raw, error) { return readTOML(path, proxyOrder) }

const (
	defaultSOCKS5  = "127.0.0.1:1080"
	off            = "off"
	maxConnections = 65536
	// maxSOCKS is the longest user and password of a SOCKS5 client (RFC 1929).
	maxSOCKS = 255
)

// ProxySettings is the checked configuration of a tunnel without an interface.
type ProxySettings struct {
	Connect // mode and transport are those of IPv6 in UDP

	SOCKS5, HTTP   string    // address and port to listen at, the same for both on one; empty for none
	ListenGiven    bool      // SOCKS5 or HTTP was said by the user
	ProxyUser      string    // at most 255 bytes; empty: anybody may use the proxy
	ProxyPassword  Secret    // none exactly when ProxyUser is empty
	Publish        []Publish // each port once
	DirectIPv4     bool      // IPv4 goes past the tunnel instead of being refused
	DNS            []netip.Addr
	MaxConnections int // 1 to 65536
}

// Publish is a port of the tunnel's address and the server on this host behind it.
type Publish struct {
	Port uint16
	To   string // HOST:PORT
}

// CheckProxy checks every value of raw and returns the configuration, as CheckConnect
// does.
func CheckProxy(raw Raw, password Secret) (ProxySettings, error) {
	p := ProxySettings{}
	var err error
	raw.Set(Mode, string(tsp.V6UDPV4))
	raw.Set(Transport, TransportUDP)
	if p.Connect, err = CheckConnect(raw, password); err != nil {
		return ProxySettings{}, err
	}
	for _, step := range []func() error{p.checkListen, p.checkUser, p.checkPublish, p.checkOthers} {
		if err := step(); err != nil {
			return ProxySettings{}, err
		}
	}
	return p, nil
}

// checkListen gives HTTP the port of SOCKS5 where it is not said.
func (p *ProxySettings) checkListen() (err error) {
	p.ListenGiven = p.raw.Has(SOCKS5) || p.raw.Has(HTTPProxy)
	if p.SOCKS5, err = one(p.raw, SOCKS5, defaultSOCKS5, parseProxyListen); err != nil {
		return err
	}
	p.HTTP = p.SOCKS5
	if p.raw.Has(HTTPProxy) {
		p.HTTP, err = one(p.raw, HTTPProxy, "", parseProxyListen)
	}
	return err
}

// parseProxyListen parses an address and port to listen at, or off.
func parseProxyListen(s string) (string, error) {
	const right = "an address and port belongs here, like 127.0.0.1:1080, or off"
	if s == off {
		return "", nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", errors.New("not an address and port; " + right)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", errors.New("no such port; " + right)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		return "", errors.New("not an address; " + right)
	}
	return s, nil
}

func (p *ProxySettings) checkUser() (err error) {
	user, isUser := p.raw.last(ProxyUser)
	file, isFile := p.raw.last(ProxyPasswordFile)
	switch {
	case isUser && !isFile:
		return invalid(ProxyUser, user, "there is no password; give --proxy-password-file FILE")
	case isFile && !isUser:
		return invalid(ProxyPasswordFile, file, "there is no user; give --proxy-user NAME")
	case !isUser:
		return nil
	}
	if p.ProxyUser, err = one(p.raw, ProxyUser, "", parseProxyUser); err != nil {
		return err
	}
	text, mode, err := readPassword(file.Text)
	if err != nil {
		return invalid(ProxyPasswordFile, file, err.Error())
	}
	if isOpen(mode) {
		p.Warnings = append(p.Warnings, openFile(file.Text))
	}
	p.ProxyPassword = NewSecret(text)
	return nil
}

func parseProxyUser(s string) (string, error) {
	if s == "" || len(s) > maxSOCKS || strings.ContainsAny(s, ":\x00\r\n") {
		return "", fmt.Errorf("1 to %d bytes belong here, without a colon or a line end", maxSOCKS)
	}
	return s, nil
}

func (p *ProxySettings) checkPublish() error {
	all, err := each(p.raw, PublishTCP, parsePublish)
	seen := make(map[uint16]bool)
	for i, a := range all {
		if seen[a.Port] {
			return invalid(PublishTCP, p.raw[PublishTCP][i], fmt.Sprintf("port %d is published already", a.Port))
		}
		seen[a.Port] = true
	}
	p.Publish = all
	return err
}

// parsePublish parses [::]:PORT=HOST:PORT.
func parsePublish(s string) (Publish, error) {
	const right = "like [::]:80=127.0.0.1:8080"
	from, to, found := strings.Cut(s, "=")
	host, text, err := net.SplitHostPort(from)
	if !found || err != nil {
		return Publish{}, errors.New("not [::]:PORT=ADDRESS:PORT, " + right)
	}
	if host != "" && host != "::" {
		return Publish{}, errors.New("the address is what the broker gives; [::] belongs here, " + right)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return Publish{}, errors.New("no such port before the =, " + right)
	}
	local, text, err := net.SplitHostPort(to)
	n, bad := strconv.ParseUint(text, 10, 16)
	if err != nil || local == "" || bad != nil || n == 0 {
		return Publish{}, errors.New("no address and port behind the =, " + right)
	}
	return Publish{uint16(port), to}, nil
}

func (p *ProxySettings) checkOthers() (err error) {
	if p.DirectIPv4, err = one(p.raw, DirectIPv4, "false", parseBool); err != nil {
		return err
	}
	if p.DNS, err = each(p.raw, DNS, parseResolver); err != nil {
		return err
	}
	p.MaxConnections, err = one(p.raw, MaxConnections, "1024", func(s string) (int, error) {
		return parseNumber(s, 1, maxConnections, fmt.Sprintf("1 to %d", maxConnections))
	})
	return err
}
