package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/tsp/broker/store"
)

// shownUser is a user as JSON shows it: nothing of the password.
type shownUser struct {
	Name        string        `json:"name"`
	ID          string        `json:"id"`
	PrefixLen   int           `json:"prefix_length"` // 0 for none
	MaxTunnels  int           `json:"max_tunnels"`
	LegacyLogin bool          `json:"legacy_login"`
	Mechanisms  []string      `json:"mechanisms,omitempty"` // only these
	Disabled    bool          `json:"disabled"`
	Operator    bool          `json:"operator"`
	Email       string        `json:"email,omitempty"`
	Confirmed   bool          `json:"email_confirmed,omitempty"` // the user has shown to read it
	Created     time.Time     `json:"created"`
	Iterations  int           `json:"iterations"`
	Tunnels     []shownTunnel `json:"tunnels,omitempty"` // in user show
}

func showUser(u store.User) shownUser {
	return shownUser{
		Name: u.Name, ID: u.ID, PrefixLen: u.PrefixLen, MaxTunnels: max(u.MaxTunnels, 1), LegacyLogin: u.Legacy,
		Mechanisms: u.Mechanisms, Disabled: u.Disabled, Operator: u.Operator, Email: u.Email, Confirmed: u.Confirmed, Created: u.Created, Iterations: u.Scram.Iterations,
	}
}

// allowance is what a user may have, in words.
func allowance(u store.User) string {
	parts := []string{"no prefix"}
	if u.PrefixLen > 0 {
		parts[0] = fmt.Sprintf("prefix /%d", u.PrefixLen)
	}
	switch n := max(u.MaxTunnels, 1); n {
	case 1:
		parts = append(parts, "1 tunnel")
	default:
		parts = append(parts, fmt.Sprintf("%d tunnels", n))
	}
	if u.Legacy {
		parts = append(parts, "legacy login")
	}
	if u.Operator {
		parts = append(parts, "operator")
	}
	if u.Disabled {
		parts = append(parts, "disabled")
	}
	return strings.Join(parts, ", ")
}

func newUserList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Show all users",
		Long:    "Show all users by name. Of passwords nothing is shown.",
		Example: "  tspd user list\n  tspd user list --json",
		Args:    cli.NoArgs,
	}
	w := addWhere(cmd)
	addJSON(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return w.with(cmd, need{}, func(ctx context.Context, db *database) error {
			if asJSON {
				return usersJSON(ctx, cmd.OutOrStdout(), db)
			}
			return usersText(ctx, cmd.OutOrStdout(), db)
		})
	}
	return cmd
}

func addJSON(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON")
}

func usersJSON(ctx context.Context, out io.Writer, db *database) error {
	all := struct {
		Users []shownUser `json:"users"`
	}{[]shownUser{}}
	for u, err := range db.Users(ctx) {
		if err != nil {
			return err
		}
		all.Users = append(all.Users, showUser(u))
	}
	return cli.WriteJSON(out, all)
}

func usersText(ctx context.Context, out io.Writer, db *database) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tCREATED\tMAY HAVE")
	for u, err := range db.Users(ctx) {
		if err != nil {
			return err
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", u.Name, u.Created.Format(time.DateOnly), allowance(u))
	}
	return tw.Flush()
}

func newUserShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a user and its addresses",
		Long:    "Show what a user may have, and the addresses and prefixes that it has.",
		Example: "  tspd user show alice\n  tspd user show alice --json",
	}
	w := addWhere(cmd)
	addJSON(cmd, &asJSON)
	return onUser(cmd, func(cmd *cobra.Command, name string) error {
		return w.with(cmd, need{}, func(ctx context.Context, db *database) error {
			u, err := db.user(ctx, name)
			if err != nil {
				return err
			}
			leases, err := db.leasesOf(ctx, u.ID)
			if err != nil {
				return err
			}
			return writeUser(cmd.OutOrStdout(), u, leases, asJSON)
		})
	})
}

func writeUser(out io.Writer, u store.User, leases []store.Lease, asJSON bool) error {
	shown := showUser(u)
	for _, l := range leases {
		shown.Tunnels = append(shown.Tunnels, showTunnel(l, u.Name))
	}
	if asJSON {
		return cli.WriteJSON(out, shown)
	}
	fmt.Fprintf(out, "%s: %s\n", u.Name, allowance(u))
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "  id\t%s\n  created\t%s\n", u.ID, u.Created.Format(time.RFC3339))
	fmt.Fprintf(tw, "  login\t%s, %d iterations\n", login(u), u.Scram.Iterations)
	if u.Email != "" {
		fmt.Fprintf(tw, "  e-mail\t%s\n", u.Email)
	}
	for _, t := range shown.Tunnels {
		fmt.Fprintf(tw, "  tunnel\t%s\n", t.line(time.Now()))
	}
	return tw.Flush()
}

// login is what a user may log in by.
func login(u store.User) string {
	switch {
	case len(u.Mechanisms) > 0:
		return strings.Join(u.Mechanisms, ", ")
	case u.Legacy:
		return "SCRAM-SHA-256, DIGEST-MD5, PLAIN"
	}
	return "SCRAM-SHA-256"
}
