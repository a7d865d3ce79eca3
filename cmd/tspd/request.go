package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
	"sixin4/tsp/broker/store"
)

// approvalTime is how long somebody who was approved has to fetch the password.
const approvalTime = 30 * 24 * time.Hour

const approveHelp = `Approve who has signed up at the web pages. The link that the person was given then
shows the password, once; the user is made at that moment.

What the user may have is as with tspd user add; without a flag it is what the
configuration says of those who sign up.`

// shownRequest is a sign-up as JSON shows it: nothing of its secret.
type shownRequest struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Email    string    `json:"email,omitempty"`
	Approved bool      `json:"approved"` // and not used yet
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
}

func newUserRequests() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "requests",
		Short:   "Show who has signed up at the web pages and is no user yet",
		Long:    "Show who has signed up at the web pages and is no user yet, oldest first: those who wait\nfor tspd user approve, and those who have not used their link yet.",
		Example: "  tspd user requests\n  tspd user requests --json",
		Args:    cli.NoArgs,
	}
	w := addWhere(cmd)
	addJSON(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return w.with(cmd, need{}, func(ctx context.Context, db *database) error {
			all := []shownRequest{}
			for s, err := range db.Signups(ctx) {
				if err != nil {
					return err
				}
				all = append(all, shownRequest{s.ID, s.Name, s.Email, s.Approved, s.Created, s.Expires})
			}
			return writeRequests(cmd.OutOrStdout(), all, asJSON)
		})
	}
	return cmd
}

func writeRequests(out io.Writer, all []shownRequest, asJSON bool) error {
	if asJSON {
		return cli.WriteJSON(out, struct {
			Requests []shownRequest `json:"requests"`
		}{all})
	}
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tE-MAIL\tASKED\tSTATE\tID")
	for _, s := range all {
		state := "waits"
		if s.Approved {
			state = "approved"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", s.Name, orNone(s.Email), s.Created.Format(time.RFC3339), state, s.ID)
	}
	return tw.Flush()
}

func newUserApprove() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "approve NAME [flags]",
		Short:   "Let somebody who has signed up become a user",
		Long:    approveHelp,
		Example: "  tspd user requests\n  tspd user approve alice\n  tspd user approve alice --prefix-length 48",
	}
	w := addWhere(cmd, lengthSetting, tunnelsSetting)
	cmd.Args = oneArg("NAME or ID")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a, err := config.CheckAccount(w.raw)
		if err != nil {
			return err
		}
		return w.with(cmd, need{}, func(ctx context.Context, db *database) error {
			return w.approve(ctx, cmd, db, args[0], a)
		})
	}
	return cmd
}

// approve approves who is called what, with what the command line says.
func (w *where) approve(ctx context.Context, cmd *cobra.Command, db *database, what string, a config.Account) error {
	s, err := db.request(ctx, what)
	if err != nil {
		return err
	}
	if w.raw.Has(config.PrefixLength) {
		s.PrefixLen = a.PrefixLen
	}
	if w.raw.Has(config.MaxTunnels) {
		s.MaxTunnels = a.MaxTunnels
	}
	s.Expires = time.Now().Add(approvalTime)
	if _, err = db.ApproveSignup(ctx, s); errors.Is(err, store.ErrExists) {
		return fmt.Errorf("user %q exists already (tspd user reject %s; the person may sign up with another name)", s.Name, what)
	}
	if err != nil {
		return err
	}
	say(cmd, "approved %s: %s; the link shows the password once, until %s", s.Name,
		allowance(store.User{PrefixLen: s.PrefixLen, MaxTunnels: s.MaxTunnels}), s.Expires.Format(time.DateOnly))
	return nil
}

func newUserReject() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "reject NAME",
		Short:   "Forget somebody who has signed up",
		Long:    "Forget somebody who has signed up, by name or ID. The person may sign up again.",
		Example: "  tspd user reject alice",
	}
	w := addWhere(cmd)
	cmd.Args = oneArg("NAME or ID")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return w.with(cmd, need{}, func(ctx context.Context, db *database) error {
			s, err := db.request(ctx, args[0])
			if err != nil {
				return err
			}
			if err := db.RemoveSignup(ctx, s.ID); err != nil {
				return err
			}
			say(cmd, "rejected %s", s.Name)
			return nil
		})
	}
	return cmd
}

// request finds who has signed up by name or ID. Several may want one name.
func (db *database) request(ctx context.Context, what string) (found store.Signup, err error) {
	n := 0
	for s, err := range db.Signups(ctx) {
		switch {
		case err != nil:
			return store.Signup{}, err
		case s.ID == what:
			return s, nil
		case s.Name == what && !s.Approved:
			found = s
			n++
		}
	}
	switch n {
	case 0:
		return store.Signup{}, fmt.Errorf("nobody of the name %q waits (tspd user requests shows who does)", what)
	case 1:
		return found, nil
	}
	return store.Signup{}, fmt.Errorf("%d people want the name %q: give the ID of one (tspd user requests shows them)", n, what)
}
