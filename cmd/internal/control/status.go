// Package control is how a running tunnel tells about itself: HTTP over a Unix
// socket, so that curl can read it as well as `sixin4 status`.
//
//	curl --unix-socket /run/sixin4/sixin4-0.sock http://tunnel/v1/status
package control

import "time"

// Status is what GET /v1/status answers, with one tunnel, and what
// `sixin4 status --json` prints, with all that are running.
type Status struct {
	Tunnels []Tunnel `json:"tunnels"`
}

// Tunnel is the state of one tunnel. Fields that do not apply are absent.
type Tunnel struct {
	Name string `json:"name"` // of the interface
	Mode string `json:"mode"` // static, v6v4 or v6udpv4
	// ModeReason is why a broker's tunnel is of this mode.
	ModeReason string            `json:"mode_reason,omitempty"`
	State      string            `json:"state"` // up, down or connecting
	Reason     string            `json:"reason,omitempty"`
	Wire       string            `json:"wire"`
	Local      string            `json:"local,omitempty"`  // IPv4; absent before the first lease
	Remote     string            `json:"remote,omitempty"` // IPv4; a hub has peers instead
	Addresses  []string          `json:"addresses,omitempty"`
	Prefixes   []string          `json:"prefixes,omitempty"` // delegated to this host
	MTU        int               `json:"mtu,omitempty"`      // of the interface, in bytes
	Since      time.Time         `json:"since"`
	Tx         Count             `json:"tx"`
	Rx         Count             `json:"rx"`
	Drops      map[string]uint64 `json:"drops"` // packets by reason; those that never happened are absent
	Work       *Work             `json:"work,omitempty"`
	ICMP       *ICMP             `json:"icmp,omitempty"`
	Peers      []Peer            `json:"peers,omitempty"` // at most 1000
	TSP        *TSP              `json:"tsp,omitempty"`
	FarEnd     *FarEnd           `json:"far_end,omitempty"`  // only when it is asked
	PathMTU    *PathMTU          `json:"path_mtu,omitempty"` // only when it is asked for

	Moves        uint64 `json:"moves,omitempty"`         // to other local addresses, by itself
	PeersOmitted int    `json:"peers_omitted,omitempty"` // that are not in Peers

	// OmittedHeard is when a packet was last taken from any of those.
	OmittedHeard time.Time `json:"peers_omitted_last_heard,omitzero"`
}

// Work counts what the engine did to packets besides carrying them, so that its
// counters can be compared with those of the kernel and of the far end.
type Work struct {
	Split       uint64 `json:"split"`       // super-packets of the kernel that were cut
	SplitInto   uint64 `json:"split_into"`  // packets that they became
	Joined      uint64 `json:"joined"`      // packets that were given to the kernel joined
	JoinedInto  uint64 `json:"joined_into"` // super-packets that they became
	Merged      uint64 `json:"merged"`      // packets that the kernel had merged when they came
	Reassembled uint64 `json:"reassembled"` // packets that came in IPv4 fragments
	Fragments   uint64 `json:"fragments"`   // IPv4 fragments that were sent
	ICMPErrors  uint64 `json:"icmp_errors"` // ICMPv6 errors that were sent back
	MSSClamped  uint64 `json:"mss_clamped"` // TCP packets whose maximum segment size was lowered
}

// ICMP counts the ICMPv4 errors about packets of the tunnel.
type ICMP struct {
	Relayed map[string]uint64 `json:"relayed"` // told to inner senders by ICMPv6, by what they said
	Ignored map[string]uint64 `json:"ignored"` // by why they changed nothing
	Learnt  uint64            `json:"learnt"`  // that lowered the MTU of the path to a peer
}

// FarEnd is what is known of the far end by asking it, by ICMPv6 echo requests through
// the tunnel.
type FarEnd struct {
	Address    string    `json:"address"`
	State      string    `json:"state"` // asking, up, down, or damped: it comes and goes too often
	Since      time.Time `json:"since,omitzero"`
	Sent       uint64    `json:"sent"`
	Answered   uint64    `json:"answered"`
	LastAnswer time.Time `json:"last_answer,omitzero"`
	RTT        float64   `json:"rtt,omitempty"` // of the last answer, in seconds
}

// PathMTU is what the way to the far end carries as found by asking it.
type PathMTU struct {
	Address string `json:"address"` // who is asked
	Phase   string `json:"phase"`   // of the search
	MTU     int    `json:"mtu"`     // in bytes of IPv6
}

// Count is packets and their IPv6 bytes in one direction, since the start.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Peer is one far end of a tunnel.
type Peer struct {
	Remote    string    `json:"remote"`
	Prefixes  []string  `json:"prefixes"`
	MTU       int       `json:"mtu"`                 // of the tunnel to this peer, in bytes
	PathMTU   int       `json:"path_mtu,omitempty"`  // IPv4 bytes that go on to it, if ICMPv4 said so
	Reason    string    `json:"reason,omitempty"`    // why it has no tunnel for us
	LastHeard time.Time `json:"last_heard,omitzero"` // of the last packet taken from it
	Tx        Count     `json:"tx"`
	Rx        Count     `json:"rx"`
}

// TSP is the state of a tunnel that a broker gave (RFC 5572).
type TSP struct {
	Server   string    `json:"server"`
	User     string    `json:"user,omitempty"`
	Lifetime int       `json:"lifetime"` // seconds
	Next     time.Time `json:"next,omitzero"`
}
