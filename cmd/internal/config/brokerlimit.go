package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Ports are destination ports.
type Ports struct{ TCP, UDP []uint16 } // in order, none twice

// The limits of a rate, in bits a second.
const (
	minRate = 1000
	maxRate = 1_000_000_000_000
)

// rateUnits are those of tc(8).
var rateUnits = []struct {
	suffix string
	bits   float64
}{
	{"kibit", 1 << 10}, {"mibit", 1 << 20}, {"gibit", 1 << 30}, {"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {"bit", 1}, {"", 1},
}

// parseRate parses a rate as tc(8) writes it, as 10mbit; a number alone is bits a second.
func parseRate(s string) (int64, error) {
	const right = `1kbit to 1000gbit, like 10mbit (bits a second, as tc writes it), or 0 for no limit`
	text := strings.ToLower(strings.TrimSpace(s))
	if strings.HasSuffix(text, "bps") {
		return 0, errors.New("bytes a second are bps to some and bits to others; " + right)
	}
	for _, u := range rateUnits {
		number, found := strings.CutSuffix(text, u.suffix)
		if !found {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsNaN(n) || strings.ContainsAny(number, "xpin_") {
			return 0, errors.New("not a rate; " + right)
		}
		if n *= u.bits; n != 0 && (n < minRate || n > maxRate) {
			return 0, errors.New("out of range; " + right)
		}
		return int64(n), nil
	}
	return 0, errors.New("not a rate; " + right)
}

// parsePorts parses PORT[/tcp|/udp][,...]. A port alone is of both protocols.
func parsePorts(s string) (p Ports, err error) {
	if s == "" || s == "none" {
		return Ports{}, nil
	}
	for text := range strings.SplitSeq(s, ",") {
		number, proto, given := strings.Cut(strings.TrimSpace(text), "/")
		const right = "1 to 65535, perhaps with /tcp or /udp, like 25/tcp,135; none for none"
		n, err := parseNumber(number, 1, 65535, right)
		if err != nil {
			return Ports{}, fmt.Errorf("%s: %w", inQuotes(strings.TrimSpace(text)), err)
		}
		if given && proto != "tcp" && proto != "udp" {
			return Ports{}, fmt.Errorf("%s: no protocol with ports; %s", inQuotes(strings.TrimSpace(text)), right)
		}
		if proto != "udp" {
			p.TCP = append(p.TCP, uint16(n))
		}
		if proto != "tcp" {
			p.UDP = append(p.UDP, uint16(n))
		}
	}
	p.TCP, p.UDP = sorted(p.TCP), sorted(p.UDP)
	return p, nil
}

func sorted[T cmp.Ordered](list []T) []T {
	slices.Sort(list)
	return slices.Compact(list)
}

// parseNode parses what a broker is called in its database.
func parseNode(s string) (string, error) {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case s == "":
		return "", nil
	case len(s) > 253:
		return "", fmt.Errorf("%d bytes long; at most 253", len(s))
	case strings.ContainsFunc(s, odd):
		return "", errors.New("printable ASCII without spaces only, like broker1.example.net")
	}
	return s, nil
}
