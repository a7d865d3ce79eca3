package config

import (
	"fmt"
	"strings"
	"time"

	"sixin4/tsp"
)

const (
	defaultKeepalive  = 30 * time.Second
	defaultRetryDelay = 30 * time.Second
	defaultRetryMax   = 5 * time.Minute
	maxRetry          = time.Hour
)

// parseSeconds parses a time of whole seconds from min to max: 90s, 5m, or a bare
// number of seconds. right says in an error what is allowed.
func parseSeconds(s string, min, max time.Duration, right string) (time.Duration, error) {
	text := s
	if strings.Trim(s, "0123456789") == "" {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("not a time; %s", right)
	case d < min || d > max:
		return 0, fmt.Errorf("out of range; %s", right)
	case d%time.Second != 0:
		return 0, fmt.Errorf("not whole seconds; %s", right)
	}
	return d, nil
}

func parseKeepalive(s string) (time.Duration, error) {
	return parseSeconds(s, 0, tsp.MaxKeepalive, "1s to 24h, like 30s, or 0 for none")
}

func parseRetry(s string) (time.Duration, error) {
	return parseSeconds(s, time.Second, maxRetry, "1s to 1h, like 30s")
}

// checkKeepalive follows checkSwitches: who negotiates for another host cannot
// keep its tunnel alive.
func (c *Connect) checkKeepalive() (err error) {
	v, given := c.raw.last(Keepalive)
	if !given && c.Proxy {
		return nil
	}
	if c.Keepalive, err = one(c.raw, Keepalive, defaultKeepalive.String(), parseKeepalive); err != nil {
		return err
	}
	if c.Proxy && c.Keepalive != 0 {
		right := "0, or none at all"
		if v.old != nil {
			right = "keepalive=no"
		}
		return invalid(Keepalive, v, "the tunnel of a proxy ends at another host, so nothing here can keep it alive; "+right)
	}
	return nil
}

// checkRetry checks the two delays. The one that is not given gives way to the
// other.
func (c *Connect) checkRetry() (err error) {
	if c.RetryDelay, err = one(c.raw, RetryDelay, defaultRetryDelay.String(), parseRetry); err != nil {
		return err
	}
	if c.RetryMax, err = one(c.raw, RetryMax, defaultRetryMax.String(), parseRetry); err != nil {
		return err
	}
	if c.RetryDelay <= c.RetryMax {
		return nil
	}
	_, delay := c.raw.last(RetryDelay)
	longest, most := c.raw.last(RetryMax)
	switch {
	case delay && most:
		return c.Invalid(RetryDelay, fmt.Sprintf("longer than %s, which is %s", longest.name(RetryMax), c.RetryMax))
	case delay:
		c.RetryMax = c.RetryDelay
	default:
		c.RetryDelay = c.RetryMax
	}
	return nil
}
