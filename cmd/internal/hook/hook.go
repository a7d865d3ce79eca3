// Package hook tells the setup script of a tunnel, and the commands that a user
// gives for its beginning and end, what was negotiated, and runs them.
//
// What they are told are the TSP_ variables that gogoCLIENT gives to the scripts in
// its template directory. RFC 5572 has nothing about them. Nothing that came from a
// broker is ever part of a command line: it is the value of an environment variable,
// and each variable has a pattern that its value must match.
package hook

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sixin4/tsp"
)

// Operation says what a script is to do, in TSP_OPERATION.
type Operation string

// The operations.
const (
	Create   Operation = "TSP_TUNNEL_CREATION"
	Teardown Operation = "TSP_TUNNEL_TEARDOWN"
)

// Params is what a script is told. Every value is checked when the variables are made
// of them, whatever has been checked before.
type Params struct {
	Operation     Operation
	Verbose       int    // 0 to 3
	HomeDir       string // an absolute path: where a script keeps its files
	Interface     string // of the tunnel
	HomeInterface string // of the LAN; may be empty
	Router        bool   // a prefix was asked for
	Tunnel        *tsp.Tunnel
}

// Variable is one variable of a script's environment.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// String is the variable as an environment has it: NAME=value.
func (v Variable) String() string { return v.Name + "=" + v.Value }

// Variables are what a script is told: TSP_OPERATION, then in the order of tspc's
// transcript what that shows, then the rest. Addresses and the prefix are in full, in
// lower case, the prefix as its leading groups without the rest: scripts put "::1/64"
// behind it. TSP_CLIENT_DNS_NAME, TSP_PREFIX and TSP_PREFIXLEN are there only when the
// broker gave them. A value that is not as it must be is an error.
func (p Params) Variables() ([]Variable, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("script variables: %w", err)
	}
	vars := slices.Concat([]Variable{{"TSP_OPERATION", string(p.Operation)}}, p.shown(), p.more())
	if err := checkAll(vars); err != nil {
		return nil, err
	}
	return vars, nil
}

func (p Params) check() error {
	if p.Tunnel == nil {
		return errors.New("no tunnel")
	}
	if err := p.Tunnel.Check(); err != nil {
		return err
	}
	if t := p.Tunnel.Type; t != tsp.V6V4 && t != tsp.V6UDPV4 {
		return fmt.Errorf("tunnel type %s carries no IPv6: %w", t, errors.ErrUnsupported)
	}
	return nil
}

// shown are the variables of the transcript.
func (p Params) shown() []Variable {
	hostType := "host"
	if p.Router {
		hostType = "router"
	}
	return []Variable{
		{"TSP_HOST_TYPE", hostType},
		{"TSP_TUNNEL_INTERFACE", p.Interface},
		{"TSP_HOME_INTERFACE", p.HomeInterface},
		{"TSP_CLIENT_ADDRESS_IPV4", p.Tunnel.Client4.String()},
		{"TSP_CLIENT_ADDRESS_IPV6", p.Tunnel.Client6.StringExpanded()},
		{"TSP_SERVER_ADDRESS_IPV4", p.Tunnel.Server4.String()},
		{"TSP_SERVER_ADDRESS_IPV6", p.Tunnel.Server6.StringExpanded()},
		{"TSP_TUNNEL_PREFIXLEN", "128"},
		{"TSP_VERBOSE", strconv.Itoa(p.Verbose)},
		{"TSP_HOME_DIR", p.HomeDir},
	}
}

func (p Params) more() []Variable {
	resolver := ""
	if len(p.Tunnel.DNS) > 0 {
		resolver = p.Tunnel.DNS[0].StringExpanded()
	}
	vars := []Variable{
		{"TSP_TUNNEL_MODE", string(p.Tunnel.Type)},
		{"TSP_CLIENT_DNS_ADDRESS_IPV6", resolver},
	}
	if name := p.Tunnel.ClientName; name != "" {
		vars = append(vars, Variable{"TSP_CLIENT_DNS_NAME", strings.ToLower(name)})
	}
	if prefix := p.Tunnel.Prefix; prefix.IsValid() {
		vars = append(vars,
			Variable{"TSP_PREFIX", prefix.Addr().StringExpanded()[:textLen(prefix.Bits())]},
			Variable{"TSP_PREFIXLEN", strconv.Itoa(prefix.Bits())})
	}
	return vars
}

// textLen is the length of the groups that a prefix of so many bits, 1 to 128,
// reaches into: four digits each, with colons between them.
func textLen(bits int) int { return (bits+15)/16*5 - 1 }

// Transcript are the lines in which tspc shows the variables: those its users know,
// and the prefix when there is one.
func Transcript(vars []Variable) []string {
	var lines []string
	for _, v := range vars {
		switch v.Name {
		case "TSP_OPERATION", "TSP_TUNNEL_MODE", "TSP_CLIENT_DNS_ADDRESS_IPV6", "TSP_CLIENT_DNS_NAME":
		default:
			lines = append(lines, strings.TrimRight(v.Name+" "+v.Value, " "))
		}
	}
	return lines
}

// rule is what the value of a variable must look like.
type rule struct {
	pattern *regexp.Regexp // of the whole value
	longest int            // bytes
	want    string         // the pattern in words
}

func newRule(pattern string, longest int, want string) rule {
	return rule{regexp.MustCompile(`^(?:` + pattern + `)$`), longest, want}
}

const (
	ifacePattern = `[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}`
	ipv4Pattern  = `\d{1,3}(\.\d{1,3}){3}`
	ipv6Pattern  = `[0-9a-f]{4}(:[0-9a-f]{4}){7}`
	ifaceWords   = "an interface name of letters, digits, '_', '.' and '-'"
	ipv6Words    = "an IPv6 address in full"
)

// rules has all variables that there are: one that is not here is refused.
var rules = map[string]rule{
	"TSP_OPERATION":               newRule(`TSP_TUNNEL_(CREATION|TEARDOWN)`, 19, "an operation"),
	"TSP_HOST_TYPE":               newRule(`host|router`, 6, "host or router"),
	"TSP_TUNNEL_INTERFACE":        newRule(ifacePattern, 15, ifaceWords),
	"TSP_HOME_INTERFACE":          newRule(`|`+ifacePattern, 15, ifaceWords),
	"TSP_CLIENT_ADDRESS_IPV4":     newRule(ipv4Pattern, 15, "an IPv4 address"),
	"TSP_CLIENT_ADDRESS_IPV6":     newRule(ipv6Pattern, 39, ipv6Words),
	"TSP_SERVER_ADDRESS_IPV4":     newRule(ipv4Pattern, 15, "an IPv4 address"),
	"TSP_SERVER_ADDRESS_IPV6":     newRule(ipv6Pattern, 39, ipv6Words),
	"TSP_TUNNEL_PREFIXLEN":        newRule(`128`, 3, "128"),
	"TSP_VERBOSE":                 newRule(`[0-3]`, 1, "0 to 3"),
	"TSP_HOME_DIR":                newRule(`/\P{C}*`, 4095, "an absolute path without control characters"),
	"TSP_TUNNEL_MODE":             newRule(`v6v4|v6udpv4`, 7, "v6v4 or v6udpv4"),
	"TSP_CLIENT_DNS_ADDRESS_IPV6": newRule(`|`+ipv6Pattern, 39, ipv6Words),
	"TSP_CLIENT_DNS_NAME": newRule(`[a-z0-9_][a-z0-9_-]*(\.[a-z0-9_][a-z0-9_-]*)*\.?`, 254,
		"a host name of lower-case letters, digits, '-', '_' and '.'"),
	"TSP_PREFIX":    newRule(`[0-9a-f]{4}(:[0-9a-f]{4}){0,7}`, 39, "the leading groups of a prefix"),
	"TSP_PREFIXLEN": newRule(`[1-9]|[1-9]\d|1[01]\d|12[0-8]`, 3, "1 to 128"),
}

// Check reports why a script must not see the variable: it is none of those this
// package makes, or its value is not what that variable holds.
func (v Variable) Check() error {
	r, known := rules[v.Name]
	switch {
	case !known:
		return fmt.Errorf("script variable %.64q: unknown", v.Name)
	case len(v.Value) > r.longest, !utf8.ValidString(v.Value), !r.pattern.MatchString(v.Value):
		return fmt.Errorf("script variable %s: %.64q is not %s", v.Name, v.Value, r.want)
	}
	return nil
}

// checkAll also refuses a variable that comes twice.
func checkAll(vars []Variable) error {
	seen := make(map[string]bool)
	for _, v := range vars {
		if err := v.Check(); err != nil {
			return err
		}
		if seen[v.Name] {
			return fmt.Errorf("script variable %s: comes twice", v.Name)
		}
		seen[v.Name] = true
	}
	return nil
}
