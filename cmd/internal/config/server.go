package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"sixin4/cmd/internal/exit"
)

const (
	// DefaultPort is the port of brokers, TCP and UDP (IANA: tsp).
	DefaultPort = 3653
	// maxServer bounds the text of a server, as programs of old do.
	maxServer = 1025
	// maxDomain and maxLabel bound a domain name and its parts (RFC 1035, Section
	// 2.3.4).
	maxDomain = 253
	maxLabel  = 63
	// maxNameServers is how many a request may name.
	maxNameServers = 8
)

const likeServer = "like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"

// missingServer asks for a broker, in the old file if there is one.
func (c *Connect) missingServer() error {
	if auth, _ := c.raw.last(Auth); auth.old != nil {
		return exit.With(exit.Config, fmt.Errorf("%s: no broker: set server, %s", auth.Origin.File, likeServer))
	}
	return exit.With(exit.Usage, errors.New("no broker: give --server HOST[:PORT], "+
		"or a file that names one with -f FILE"))
}

// Server is a broker as the user names it.
type Server struct {
	Host string // name in the DNS, or literal address without brackets
	Port uint16 // never 0
}

// String is the server with its port, and with the brackets of an IPv6 address.
func (s Server) String() string {
	return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
}

// ParseServer parses a broker: a host name, an IPv4 address, or an IPv6 address in
// brackets, each with :PORT behind it when that is not 3653.
func ParseServer(s string) (Server, error) {
	switch {
	case s == "":
		return Server{}, errors.New("empty; a broker belongs here, " + likeServer)
	case len(s) > maxServer:
		return Server{}, fmt.Errorf("%d characters long; at most %d", len(s), maxServer)
	case strings.Contains(s, "://"):
		return Server{}, errors.New("an address of the web; the broker's name or address belongs here, " + likeServer)
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Is6() {
		return Server{}, fmt.Errorf("an IPv6 address stands in brackets: [%s]", s)
	}
	host, port, err := splitPort(s)
	if err != nil {
		return Server{}, err
	}
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		host, err = parseServer6(strings.TrimSuffix(inner, "]"))
	} else {
		host, err = parseServerName(host)
	}
	return Server{Host: host, Port: port}, err
}

// splitPort takes the port off, which is 3653 when there is none.
func splitPort(s string) (host string, port uint16, err error) {
	host, text, found := s, "", false
	if end := strings.LastIndexByte(s, ']'); strings.HasPrefix(s, "[") {
		if end < 0 || s[end+1:] != "" && s[end+1] != ':' {
			return "", 0, errors.New("brackets that do not match, " + likeServer)
		}
		host = s[:end+1]
		text, found = strings.CutPrefix(s[end+1:], ":")
	} else {
		host, text, found = strings.Cut(s, ":")
	}
	if !found {
		return host, DefaultPort, nil
	}
	n, err := parseNumber(text, 1, 65535, "1 to 65535, usually 3653")
	if err != nil {
		return "", 0, fmt.Errorf("port %s: %w", inQuotes(text), err)
	}
	return host, uint16(n), nil
}

func parseServer6(s string) (string, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil || !a.Is6() || a.Zone() != "":
		return "", errors.New("no IPv6 address in the brackets, like [2001:db8::1]:3653")
	case a.Is4In6(), a.IsUnspecified(), a.IsMulticast():
		return "", fmt.Errorf("%s is not the address of a host, like [2001:db8::1]:3653", a)
	}
	return a.String(), nil
}

// parseServerName parses an IPv4 address or a name. What ends in a number is meant
// as an address. A broker on this host is unusual but possible.
func parseServerName(s string) (string, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err == nil && !a.IsLoopback():
		if why := notHost(a); why != "" {
			return "", fmt.Errorf("%s; the broker is a host, %s", why, likeServer)
		}
		return s, nil
	case err == nil:
		return s, nil
	case lastLabel(s) != "" && strings.Trim(lastLabel(s), "0123456789") == "":
		return "", errors.New("neither an IPv4 address nor a host name, " + likeServer)
	}
	if why := notDomain(s); why != "" {
		return "", fmt.Errorf("%s, %s", why, likeServer)
	}
	return s, nil
}

func lastLabel(s string) string {
	s = strings.TrimSuffix(s, ".")
	return s[strings.LastIndexByte(s, '.')+1:]
}

// notDomain says why s can be no name in the DNS, or nothing. The underscore is no
// letter of host names (RFC 1123, Section 2.1), but there are hosts that have it.
func notDomain(s string) string {
	s = strings.TrimSuffix(s, ".")
	if len(s) > maxDomain {
		return fmt.Sprintf("a name of %d characters, of which there are at most %d", len(s), maxDomain)
	}
	for label := range strings.SplitSeq(s, ".") {
		bad := strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
		switch {
		case bad, label == "", strings.HasPrefix(label, "-"), strings.HasSuffix(label, "-"):
			return "not a host name"
		case len(label) > maxLabel:
			return fmt.Sprintf("a name with a part of %d characters, of which there are at most %d", len(label), maxLabel)
		}
	}
	return ""
}

// parseNameServer parses the name of a name server. Brokers take no addresses.
func parseNameServer(s string) (string, error) {
	if _, err := netip.ParseAddr(s); err == nil {
		return "", errors.New("an address; the name of a name server belongs here, like ns1.example.net")
	}
	if why := notDomain(s); why != "" {
		return "", errors.New(why + ", like ns1.example.net")
	}
	return strings.TrimSuffix(s, "."), nil
}

// lan is the interface that gets a /64 of the prefix, and which one.
type lan struct {
	name   string
	subnet uint16
}

// parseLAN parses IFACE[=SUBNETID].
func parseLAN(s string) (lan, error) {
	name, id, found := strings.Cut(s, "=")
	if err := checkName(name); err != nil {
		return lan{}, err
	}
	if !found {
		return lan{name: name}, nil
	}
	n, err := strconv.ParseUint(id, 16, 16)
	if err != nil {
		return lan{}, fmt.Errorf("subnet %s: 0 to ffff in hexadecimal, like %s=1", inQuotes(id), name)
	}
	return lan{name, uint16(n)}, nil
}
