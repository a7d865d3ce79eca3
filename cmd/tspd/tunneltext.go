package main

import (
	"net/netip"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker/store"
)

// shownTunnel is a lease as JSON shows it. Fields that do not apply are absent.
type shownTunnel struct {
	ID      string    `json:"id"`
	User    string    `json:"user,omitempty"` // absent for nobody's
	Address string    `json:"address"`        // of the client
	Server  string    `json:"server"`         // of the broker
	Prefix  string    `json:"prefix,omitempty"`
	State   string    `json:"state"` // offered, up, down or quarantined
	Mode    tsp.Type  `json:"mode,omitempty"`
	Outer   string    `json:"outer,omitempty"` // the client's IPv4 address, with the port if there is one
	Local   string    `json:"local,omitempty"` // the broker's end of a tunnel in UDP
	Node    string    `json:"node,omitempty"`  // the broker that carries it
	Created time.Time `json:"created"`
	Seen    time.Time `json:"last_seen,omitzero"`
	Expires time.Time `json:"expires,omitzero"`

	lease store.Lease
}

func showTunnel(l store.Lease, user string) shownTunnel {
	t := shownTunnel{
		ID: l.ID, User: user, Address: l.Client6.String(), Server: l.Server6.String(), State: string(l.State),
		Mode: l.Type, Outer: outer(l.Outer), Local: outer(l.Local), Node: l.Node, Created: l.Created, Seen: l.LastSeen, Expires: l.Expires,
		lease: l,
	}
	if l.Prefix.IsValid() {
		t.Prefix = l.Prefix.String()
	}
	return t
}

// outer is an end of a tunnel; protocol 41 has no port.
func outer(a netip.AddrPort) string {
	switch {
	case !a.Addr().IsValid():
		return ""
	case a.Port() == 0:
		return a.Addr().String()
	}
	return a.String()
}

// owner names the owner for people.
func (t shownTunnel) owner() string {
	switch {
	case t.User != "":
		return t.User
	case t.State == string(store.Quarantined):
		return "-"
	}
	return "(anonymous)"
}

// seen is how long ago the client was heard.
func (t shownTunnel) seen(now time.Time) string {
	if t.Seen.IsZero() {
		return "never"
	}
	return ago(t.Seen, now) + " ago"
}

// line is a tunnel of a user in one line.
func (t shownTunnel) line(now time.Time) string {
	text := t.Address
	if t.Prefix != "" {
		text += ", prefix " + t.Prefix
	}
	text += ", " + t.State
	if t.Outer != "" {
		text += " from " + t.Outer
	}
	return text + ", seen " + t.seen(now)
}

// ago is the time from t to now in whole seconds, or in days when that says enough.
func ago(t, now time.Time) string {
	d := max(now.Sub(t), 0)
	if d >= 48*time.Hour {
		return formatDays(int(d / (24 * time.Hour)))
	}
	return d.Truncate(time.Second).String()
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
