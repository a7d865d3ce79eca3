package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/tsp"
	"sixin4/tsp/broker/store"
)

const logHelp = `Show who had which address and prefix when, and from which IPv4 address, the oldest
first. An entry is about a session that began or ended, or about an address that was
returned; a session that began also ends the one before it.

Times are 2006-01-02, "2006-01-02 15:04" (of this host's zone), RFC 3339, or how long
ago, like 36h or 7d.`

const logExamples = `  tspd log --since 24h
  tspd log --address 2001:db8:1001::1
  tspd log --since 2026-01-01 --until 2026-02-01 --json`

type logFlags struct {
	address, since, until string
	json                  bool
}

func newLog() *cobra.Command {
	var flags logFlags
	cmd := &cobra.Command{
		Use:     "log [flags]",
		Short:   "Show who had which address and prefix when",
		Long:    logHelp,
		Example: logExamples,
		Args:    cli.NoArgs,
	}
	w := addWhere(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.address, "address", "", "only about the IPv6 `ADDRESS`, or the prefix that it is in")
	f.StringVar(&flags.since, "since", "", "only from `TIME` on")
	f.StringVar(&flags.until, "until", "", "only before `TIME`")
	addJSON(cmd, &flags.json)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := flags.query(time.Now())
		if err != nil {
			return err
		}
		return w.with(cmd, need{}, func(ctx context.Context, db *database) error {
			if flags.json {
				return logJSON(ctx, cmd.OutOrStdout(), db, q)
			}
			return logText(ctx, cmd.OutOrStdout(), db, q)
		})
	}
	cmd.AddCommand(newLogForget())
	return cmd
}

func newLogForget() *cobra.Command {
	var before string
	cmd := &cobra.Command{
		Use:     "forget --before TIME",
		Short:   "Remove old entries from the log",
		Long:    "Remove all entries of the log that are older than a time, for good. Who has which\naddress now is not changed. Times are as those of tspd log.",
		Example: "  tspd log forget --before 180d\n  tspd log forget --before 2026-01-01",
		Args:    cli.NoArgs,
	}
	w := addWhere(cmd)
	cmd.Flags().StringVar(&before, "before", "", "remove what is older than `TIME`; required")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		t, err := parseTime(before, time.Now())
		if err == nil && t.IsZero() {
			err = errors.New("a time is missing; like 180d or 2026-01-31")
		}
		if err != nil {
			return cli.Usage("--before %q: %w", before, err)
		}
		return w.with(cmd, need{}, func(ctx context.Context, db *database) error {
			n, err := db.ForgetLog(ctx, t)
			if err != nil {
				return err
			}
			say(cmd, "removed %d entries", n)
			return nil
		})
	}
	return cmd
}

func (f logFlags) query(now time.Time) (q store.Query, err error) {
	if f.address != "" {
		q.Address, err = netip.ParseAddr(f.address)
		if err != nil || !q.Address.Is6() || q.Address.Zone() != "" {
			return q, cli.Usage("--address %s: not an IPv6 address, like 2001:db8:1000::2", f.address)
		}
	}
	if q.From, err = parseTime(f.since, now); err != nil {
		return q, cli.Usage("--since %s: %w", f.since, err)
	}
	if q.Until, err = parseTime(f.until, now); err != nil {
		return q, cli.Usage("--until %s: %w", f.until, err)
	}
	if !q.From.IsZero() && !q.Until.IsZero() && !q.From.Before(q.Until) {
		return q, cli.Usage("--since %s: not before --until %s", f.since, f.until)
	}
	return q, nil
}

// parseTime parses a time for people; an empty text is none.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if ago, ok := parseAgo(s); ok {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly, time.DateTime, "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New(`not a time; 2026-01-31, "2026-01-31 15:04", RFC 3339, or how long ago, like 36h or 7d`)
}

func parseAgo(s string) (time.Duration, bool) {
	if days, found := strings.CutSuffix(s, "d"); found {
		n, err := strconv.ParseUint(days, 10, 15)
		return time.Duration(n) * 24 * time.Hour, err == nil
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= 0
}

func formatDays(n int) string { return strconv.Itoa(n) + "d" }

// shownEntry is an entry of the log as JSON shows it.
type shownEntry struct {
	At      time.Time   `json:"at"`
	Event   store.Event `json:"event"` // began, ended or returned
	Address string      `json:"address"`
	Prefix  string      `json:"prefix,omitempty"`
	User    string      `json:"user,omitempty"` // absent for nobody
	UserID  string      `json:"user_id,omitempty"`
	Outer   string      `json:"outer,omitempty"`
	Mode    tsp.Type    `json:"mode,omitempty"`
	Node    string      `json:"node,omitempty"`
	Lease   string      `json:"tunnel"`
}

func showEntry(e store.Entry) shownEntry {
	s := shownEntry{
		At: e.At, Event: e.Event, Address: e.Client6.String(), User: e.UserName, UserID: e.UserID,
		Outer: outer(e.Outer), Mode: e.Type, Node: e.Node, Lease: e.LeaseID,
	}
	if e.Prefix.IsValid() {
		s.Prefix = e.Prefix.String()
	}
	return s
}

func logJSON(ctx context.Context, out io.Writer, db *database, q store.Query) error {
	all := struct {
		Entries []shownEntry `json:"entries"`
	}{[]shownEntry{}}
	for e, err := range db.Log(ctx, q) {
		if err != nil {
			return err
		}
		all.Entries = append(all.Entries, showEntry(e))
	}
	return cli.WriteJSON(out, all)
}

// flushEvery is after how many lines a table is written, so that a long log needs
// little memory.
const flushEvery = 1000

func logText(ctx context.Context, out io.Writer, db *database, q store.Query) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TIME\tEVENT\tADDRESS\tPREFIX\tUSER\tFROM")
	n := 0
	for e, err := range db.Log(ctx, q) {
		if err != nil {
			return err
		}
		s := showEntry(e)
		user := s.User
		if user == "" {
			user = "(anonymous)"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", s.At.Format(time.RFC3339), s.Event, s.Address, orNone(s.Prefix), user, orNone(s.Outer))
		if n++; n%flushEvery == 0 {
			if err := tw.Flush(); err != nil {
				return err
			}
		}
	}
	return tw.Flush()
}
