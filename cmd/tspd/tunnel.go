package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/tsp/broker/store"
)

const tunnelHelp = `Show and end tunnels, also while the broker runs. What is shown is what the database
says: a tunnel is in it from the first time its owner asks until it is given back,
whether it is up or not.`

const tunnelExamples = `  tspd tunnel list
  tspd tunnel show 2001:db8:1001::1`

const dropHelp = `End tunnels: of an address, an address in a prefix, a prefix, an ID, or all of a user. The
owner keeps address and prefix, and may come back at once; tspd user disable keeps
a user out.

With --release address and prefix are given back, and stay unused for --quarantine.
The owner gets others. The broker notices within half a minute when the client sends
anything.`

const dropExamples = `  tspd tunnel drop 2001:db8:1000::2
  tspd tunnel drop alice --release`

func newTunnel() *cobra.Command {
	return group("tunnel", "Show and end tunnels", tunnelHelp, tunnelExamples,
		newTunnelList(), newTunnelShow(), newTunnelDrop())
}

func newTunnelList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Show all tunnels",
		Long:    "Show all tunnels with their owners, the oldest first: also those that are down, and\nthose that wait in quarantine.",
		Example: "  tspd tunnel list\n  tspd tunnel list --json",
		Args:    cli.NoArgs,
	}
	w := addWhere(cmd)
	addJSON(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return w.with(cmd, need{}, func(ctx context.Context, db *database) error {
			all, err := db.tunnels(ctx, func(store.Lease) bool { return true })
			if err != nil {
				return err
			}
			return writeTunnels(cmd.OutOrStdout(), all, asJSON)
		})
	}
	return cmd
}

func newTunnelShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ADDRESS|PREFIX|ID|USER",
		Short:   "Show tunnels by address, prefix, ID or user",
		Long:    "Show the tunnel with an address, or with a prefix that has the address in it, or the\ntunnels of a user.",
		Example: "  tspd tunnel show 2001:db8:1000::2\n  tspd tunnel show alice --json",
		Args:    oneArg("ADDRESS, PREFIX, ID or USER"),
	}
	w := addWhere(cmd)
	addJSON(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return w.with(cmd, need{}, func(ctx context.Context, db *database) error {
			found, err := db.find(ctx, args[0])
			if err != nil {
				return err
			}
			return writeTunnels(cmd.OutOrStdout(), found, asJSON)
		})
	}
	return cmd
}

func newTunnelDrop() *cobra.Command {
	var release bool
	cmd := &cobra.Command{
		Use:     "drop ADDRESS|PREFIX|ID|USER",
		Short:   "End tunnels by address, prefix, ID or user",
		Long:    dropHelp,
		Example: dropExamples,
		Args:    oneArg("ADDRESS, PREFIX, ID or USER"),
	}
	w := addWhere(cmd, quarantineSetting)
	cmd.Flags().BoolVar(&release, "release", false, "give address and prefix back as well")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return w.with(cmd, need{}, func(ctx context.Context, db *database) error {
			found, err := db.find(ctx, args[0])
			if err != nil {
				return err
			}
			return db.drop(ctx, cmd, found, release)
		})
	}
	return cmd
}

// drop ends all, or gives them back.
func (db *database) drop(ctx context.Context, cmd *cobra.Command, all []shownTunnel, release bool) error {
	dropped := 0
	for _, t := range all {
		l := t.lease
		switch {
		case l.State == store.Quarantined:
			say(cmd, "%s was given back already", l.Client6)
			continue
		case !release && l.State != store.Up:
			say(cmd, "%s is not up", l.Client6)
			continue
		}
		if err := db.dropOne(ctx, l, release); err != nil {
			return err
		}
		dropped++
		if release {
			say(cmd, "%s", db.given(l, time.Now()))
		} else {
			say(cmd, "%s is down; %s keeps it", blocks(l), t.owner())
		}
	}
	if dropped == 0 {
		return errors.New("nothing to drop")
	}
	return nil
}

func (db *database) dropOne(ctx context.Context, l store.Lease, release bool) error {
	if release {
		return db.Release(ctx, l.ID, l.Epoch)
	}
	return db.Deactivate(ctx, l.ID, l.Epoch)
}

// given says what became of what was given back. What was never used needs no
// quarantine.
func (db *database) given(l store.Lease, now time.Time) string {
	if l.LastSeen.IsZero() || db.cfg.Quarantine == 0 {
		return blocks(l) + " is free"
	}
	return fmt.Sprintf("%s stays unused until %s", blocks(l), now.Add(db.cfg.Quarantine).Format(time.RFC3339))
}

// blocks are the address and the prefix of a lease.
func blocks(l store.Lease) string {
	if l.Prefix.IsValid() {
		return l.Client6.String() + " with " + l.Prefix.String()
	}
	return l.Client6.String()
}

// find finds tunnels by an address, a prefix, an ID or the name of a user. A name
// wins, as it could be anything.
func (db *database) find(ctx context.Context, what string) ([]shownTunnel, error) {
	u, err := db.UserByName(ctx, what)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	isUser := err == nil
	address, _ := netip.ParseAddr(what)
	prefix, _ := netip.ParsePrefix(what)
	found, err := db.tunnels(ctx, func(l store.Lease) bool {
		if isUser {
			return l.UserID == u.ID
		}
		return l.ID == what || address.IsValid() && (l.Client6 == address || l.Prefix.Contains(address)) ||
			prefix.IsValid() && l.Prefix == prefix
	})
	switch {
	case err != nil || len(found) > 0:
		return found, err
	case isUser:
		return nil, fmt.Errorf("user %q has no tunnel yet", what)
	case address.IsValid(), prefix.IsValid():
		return nil, fmt.Errorf("%s is nobody's (tspd log --address says whose it was)", what)
	}
	return nil, fmt.Errorf("no tunnel of %q: an address, a prefix, an ID or the name of a user belongs here", what)
}

// tunnels are those leases that a test lets pass, with the names of their owners.
func (db *database) tunnels(ctx context.Context, pass func(store.Lease) bool) ([]shownTunnel, error) {
	all := []shownTunnel{}
	for l, err := range db.Leases(ctx) {
		if err != nil {
			return nil, err
		}
		if pass(l) {
			all = append(all, showTunnel(l, ""))
		}
	}
	return all, db.nameOwners(ctx, all)
}

// nameOwners fills in who the owners are.
func (db *database) nameOwners(ctx context.Context, all []shownTunnel) error {
	names := make(map[string]string)
	for u, err := range db.Users(ctx) {
		if err != nil {
			return err
		}
		names[u.ID] = u.Name
	}
	for i := range all {
		all[i].User = names[all[i].lease.UserID]
	}
	return nil
}

// leasesOf are the leases of a user.
func (db *database) leasesOf(ctx context.Context, userID string) ([]store.Lease, error) {
	var all []store.Lease
	for l, err := range db.Leases(ctx) {
		if err != nil {
			return nil, err
		}
		if l.UserID == userID {
			all = append(all, l)
		}
	}
	return all, nil
}

func writeTunnels(out io.Writer, all []shownTunnel, asJSON bool) error {
	if asJSON {
		return cli.WriteJSON(out, struct {
			Tunnels []shownTunnel `json:"tunnels"`
		}{all})
	}
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "ADDRESS\tPREFIX\tOWNER\tSTATE\tFROM\tSEEN")
	now := time.Now()
	for _, t := range all {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", t.Address, orNone(t.Prefix), t.owner(), t.State, orNone(t.Outer), t.seen(now))
	}
	return tw.Flush()
}
