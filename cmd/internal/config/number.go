package config

import (
	"errors"
	"fmt"
	"strconv"

	"sixin4/encap"
)

// maxQueues is what the kernel allows for one TUN device (MAX_TAP_QUEUES).
const maxQueues = 256

const inherit = "inherit"

// parseNumber parses a decimal number from min to max. right says in an error
// what is allowed.
func parseNumber(s string, min, max int, right string) (int, error) {
	n, err := strconv.Atoi(s)
	if errors.Is(err, strconv.ErrRange) || err == nil && (n < min || n > max) {
		return 0, fmt.Errorf("out of range; %s", right)
	}
	if err != nil {
		return 0, fmt.Errorf("not a number; %s", right)
	}
	return n, nil
}

// parseMTU parses the MTU of the tunnel: RFC 8200, Section 5 asks for at least
// 1280 bytes, and an IPv4 packet of 65535 has room for 65515.
func parseMTU(s string) (encap.TunMTU, error) {
	if s == auto {
		return 0, nil
	}
	n, err := parseNumber(s, int(encap.MinTunMTU), int(encap.MaxTunMTU),
		"auto, probe, or 1280 (the least that IPv6 works with) to 65515 (the most that fits IPv4)")
	return encap.TunMTU(n), err
}

func parseTTL(s string) (Field, error) {
	if s == inherit {
		return Field{Inherit: true}, nil
	}
	n, err := parseNumber(s, 1, 255, "inherit, or 1 to 255 (64 is usual)")
	return Field{Value: uint8(n)}, err
}

// parseTOS parses the DSCP as the byte that holds it. The ECN bits of that byte
// are never fixed: RFC 6040 says what stands there.
func parseTOS(s string) (Field, error) {
	if s == inherit {
		return Field{Inherit: true}, nil
	}
	const right = "inherit, 0, or a multiple of 4 from 4 to 252"
	n, err := parseNumber(s, 0, 255, right)
	if err != nil {
		return Field{}, err
	}
	if n&3 != 0 {
		return Field{}, fmt.Errorf("sets ECN bits, the lowest two, which are copied from each packet; %s (here %d)", right, n&^3)
	}
	return Field{Value: uint8(n)}, nil
}

func parseQueues(s string) (int, error) {
	if s == auto {
		return 0, nil
	}
	return parseNumber(s, 1, maxQueues, fmt.Sprintf("auto, or 1 to %d", maxQueues))
}
