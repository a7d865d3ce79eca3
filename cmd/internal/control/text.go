package control

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteText writes s for people, a few aligned lines for each tunnel. now is
// what ages are counted from.
func (s Status) WriteText(w io.Writer, now time.Time) error {
	for i, t := range s.Tunnels {
		if i > 0 {
			fmt.Fprintln(w)
		}
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		t.write(tw, now)
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (t Tunnel) write(w io.Writer, now time.Time) {
	state := t.State
	if t.Reason != "" {
		state += " (" + t.Reason + ")"
	}
	fmt.Fprintf(w, "%s: %s, running for %s\n", t.Name, state, age(t.Since, now))
	if t.TSP != nil {
		fmt.Fprintf(w, "  broker\t%s\n", t.TSP.text(now))
	}
	far := t.Remote
	if far == "" {
		far = fmt.Sprintf("%d peers", len(t.Peers)+t.PeersOmitted)
	}
	if t.Local != "" {
		fmt.Fprintf(w, "  tunnel\t%s -> %s, %s, %s, mtu %d\n", t.Local, far, t.Mode, t.Wire, t.MTU)
	}
	if t.ModeReason != "" {
		fmt.Fprintf(w, "  mode\t%s: %s\n", t.Mode, t.ModeReason)
	}
	if t.FarEnd != nil {
		fmt.Fprintf(w, "  far end\t%s\n", t.FarEnd.text(now))
	}
	if t.PathMTU != nil {
		fmt.Fprintf(w, "  path\t%s\n", t.PathMTU.text())
	}
	if len(t.Addresses) > 0 {
		fmt.Fprintf(w, "  address\t%s\n", strings.Join(t.Addresses, ", "))
	}
	if len(t.Prefixes) > 0 {
		fmt.Fprintf(w, "  prefix\t%s\n", strings.Join(t.Prefixes, ", "))
	}
	fmt.Fprintf(w, "  sent\t%s\n", t.Tx)
	fmt.Fprintf(w, "  received\t%s%s\n", t.Rx, t.heard(now))
	if len(t.Drops) > 0 {
		fmt.Fprintf(w, "  dropped\t%s\n", drops(t.Drops))
	}
	if t.Remote == "" {
		for _, p := range t.Peers {
			p.write(w, now)
		}
	}
	if t.PeersOmitted > 0 {
		fmt.Fprintf(w, "  peers\t%d more\n", t.PeersOmitted)
	}
}

// text says who the broker is, to whom it gave the tunnel, for how long, and when it
// will be asked again.
func (t TSP) text(now time.Time) string {
	text := t.Server + ", anonymous"
	if t.User != "" {
		text = t.Server + ", user " + t.User
	}
	if t.Lifetime > 0 {
		text += ", lifetime " + (time.Duration(t.Lifetime) * time.Second).String()
	}
	if !t.Next.IsZero() {
		text += ", asked again in " + age(now, t.Next)
	}
	return text
}

// heard says when the one peer of a tunnel was last heard.
func (t Tunnel) heard(now time.Time) string {
	if t.Remote == "" || len(t.Peers) != 1 || t.Peers[0].LastHeard.IsZero() {
		return ""
	}
	return ", the last " + age(t.Peers[0].LastHeard, now) + " ago"
}

func (p Peer) write(w io.Writer, now time.Time) {
	heard := "never heard"
	if !p.LastHeard.IsZero() {
		heard = "heard " + age(p.LastHeard, now) + " ago"
	}
	fmt.Fprintf(w, "  peer\t%s\t%s\tmtu %d\t%s\tsent %s\treceived %s\n",
		p.Remote, strings.Join(p.Prefixes, ","), p.MTU, heard, p.Tx, p.Rx)
}

// String returns c for people.
func (c Count) String() string {
	return fmt.Sprintf("%d packets, %s", c.Packets, size(c.Bytes))
}

// drops lists the reasons, the most frequent first.
func drops(m map[string]uint64) string {
	reasons := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			if m[a] > m[b] {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	for i, r := range reasons {
		reasons[i] = fmt.Sprintf("%s %d", r, m[r])
	}
	return strings.Join(reasons, ", ")
}

// age is the time from t to now in whole seconds, never negative.
func age(t, now time.Time) string {
	return max(now.Sub(t), 0).Truncate(time.Second).String()
}

// size writes n bytes with the largest unit that leaves a number of at least 1.
func size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1024, 0
	for f >= 1024 && unit < len(units)-1 {
		f, unit = f/1024, unit+1
	}
	return fmt.Sprintf("%.1f %s", f, units[unit])
}

var units = []string{"KiB", "MiB", "GiB", "TiB", "PiB"}
