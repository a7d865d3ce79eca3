package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/program"
	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

const userHelp = `Show and change the users, also while the broker runs. The broker asks for a user at
each login, so that a change counts from the next one on.`

const userExamples = `  tspd user add alice --password-file /root/alice --prefix-length 48
  tspd user list`

const addHelp = `Add a user. The password is the first line of --password-file, which may be
/dev/stdin, or the variable SIXIN4_PASSWORD: at least 8 characters.

A user has one address for ever, and, with --prefix-length, one prefix. It is given
them with the first tunnel.

What is stored of the password is good for SCRAM-SHA-256 and for nothing else. Clients
of old, tspc and gogoCLIENT, know only DIGEST-MD5 and PLAIN; --legacy-login lets this
user log in by them. For DIGEST-MD5 the database then has a hash that is as good as
the password to whoever reads it. It is encrypted with the key file.`

const addExamples = `  tspd user add alice --password-file /root/alice
  tspd user add bob --password-file /root/bob --prefix-length 56 --max-tunnels 2
  (umask 077; head -c 12 /dev/urandom | base64 > carol); tspd user add carol --password-file carol --legacy-login`

const setHelp = `Change what a user may have. A prefix that the user has already stays as long as it
is until its tunnel is dropped with --release.

Legacy login is switched on by tspd user password, which has the password that
must be stored for it, and off by either.`

// The settings of accounts.
var (
	passwordSetting = cli.Flag(config.PasswordFile, "FILE", "the password is the first line of FILE; or else of the variable SIXIN4_PASSWORD")
	lengthSetting   = cli.Flag(config.PrefixLength, "N", "length of the user's prefix in bits, 48 to 64; 0, the default, for none", "48", "56", "64")
	tunnelsSetting  = cli.Flag(config.MaxTunnels, "N", "how many tunnels, each with its own address, at the same time; default 1")
	operatorSetting = cli.Flag(config.Operator, "bool", "let the user see and change what is others', in the web pages")
	legacySetting   = cli.Flag(config.LegacyLogin, "bool", "let the user log in by DIGEST-MD5 and PLAIN too")
)

func newUser() *cobra.Command {
	return group("user", "Show and change the users", userHelp, userExamples,
		newUserAdd(), newUserList(), newUserShow(), newUserSet(), newUserPassword(),
		newUserSwitch("disable", "End a user's tunnels and refuse new ones", true),
		newUserSwitch("enable", "Let a user log in again", false),
		newUserRemove(), newUserRequests(), newUserApprove(), newUserReject())
}

// onUser makes a command about one user.
func onUser(cmd *cobra.Command, f func(cmd *cobra.Command, name string) error) *cobra.Command {
	cmd.Args = oneArg("NAME")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return f(cmd, args[0]) }
	return cmd
}

func newUserAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "add NAME --password-file FILE [flags]",
		Short:   "Add a user",
		Long:    addHelp,
		Example: addExamples,
	}
	w := addWhere(cmd, passwordSetting, lengthSetting, tunnelsSetting, legacySetting, operatorSetting, iterationsSetting, realmSetting)
	return onUser(cmd, func(cmd *cobra.Command, name string) error {
		if err := config.CheckAccountName(name); err != nil {
			return cli.Usage("user %q: %w", name, err)
		}
		a, err := config.CheckAccount(w.raw)
		if err != nil {
			return err
		}
		password, err := newPassword(cmd, w.raw, name)
		if err != nil {
			return err
		}
		return w.with(cmd, need{create: true, key: a.Legacy}, func(ctx context.Context, db *database) error {
			return add(ctx, cmd, db, name, a, password)
		})
	})
}

func add(ctx context.Context, cmd *cobra.Command, db *database, name string, a config.Account, password config.Secret) error {
	u := store.User{Name: name, PrefixLen: a.PrefixLen, MaxTunnels: a.MaxTunnels, Legacy: a.Legacy, Operator: a.Operator}
	if err := db.setPassword(&u, password); err != nil {
		return err
	}
	u, err := db.AddUser(ctx, u)
	if errors.Is(err, store.ErrExists) {
		return fmt.Errorf("user %q exists already (tspd user set and tspd user password change it)", name)
	}
	if err != nil {
		return err
	}
	say(cmd, "added %s: %s", name, allowance(u))
	db.sayLegacy(cmd, u)
	return nil
}

// newPassword finds the password, and warns when others may read it.
func newPassword(cmd *cobra.Command, raw config.Raw, user string) (config.Secret, error) {
	password, warning, err := config.NewPassword(raw, user, config.NewSecret(os.Getenv(config.PasswordVariable)))
	if warning != "" {
		program.Complain(cmd.ErrOrStderr(), "tspd", errors.New(warning))
	}
	return password, err
}

// setPassword puts into u what is stored of a password.
func (db *database) setPassword(u *store.User, password config.Secret) error {
	keys, err := account.HashPassword(u.Name, password.Reveal(), db.cfg.Iterations)
	if err != nil {
		return cli.Usage("the password cannot be used: %w", err)
	}
	u.Scram, u.Digest = keys, nil
	if u.Legacy {
		d := sasl.NewDigest(u.Name, db.cfg.Realm, password.Reveal())
		u.Digest = &d
	}
	return nil
}

// sayLegacy says what legacy login costs.
func (db *database) sayLegacy(cmd *cobra.Command, u store.User) {
	if u.Legacy {
		say(cmd, "legacy login: a hash that is as good as the password is in the database, encrypted with %s", db.cfg.KeyFile)
	}
}

func newUserSet() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "set NAME [flags]",
		Short:   "Change what a user may have",
		Long:    setHelp,
		Example: "  tspd user set alice --prefix-length 48 --max-tunnels 2\n  tspd user set alice --legacy-login=false",
	}
	w := addWhere(cmd, lengthSetting, tunnelsSetting, legacySetting, operatorSetting)
	return onUser(cmd, func(cmd *cobra.Command, name string) error {
		a, err := config.CheckAccount(w.raw)
		switch {
		case err != nil:
			return err
		case a.Legacy:
			return cli.Usage("--legacy-login: needs the password: tspd user password NAME --legacy-login --password-file FILE")
		case !slices.ContainsFunc([]config.Key{config.PrefixLength, config.MaxTunnels, config.LegacyLogin, config.Operator}, w.raw.Has):
			return cli.Usage("set: what? --prefix-length, --max-tunnels, --operator or --legacy-login=false")
		}
		return w.change(cmd, name, need{}, "changed", func(_ *database, u *store.User) error {
			w.apply(u, a)
			return nil
		})
	})
}

// apply changes in u what was given on the command line.
func (w *where) apply(u *store.User, a config.Account) {
	if w.raw.Has(config.PrefixLength) {
		u.PrefixLen = a.PrefixLen
	}
	if w.raw.Has(config.MaxTunnels) {
		u.MaxTunnels = a.MaxTunnels
	}
	if w.raw.Has(config.Operator) {
		u.Operator = a.Operator
	}
	if w.raw.Has(config.LegacyLogin) {
		if u.Legacy = a.Legacy; !u.Legacy {
			u.Digest = nil
		}
	}
}

// change changes one user and says so.
func (w *where) change(cmd *cobra.Command, name string, need need, done string, f func(*database, *store.User) error) error {
	return w.with(cmd, need, func(ctx context.Context, db *database) error {
		u, err := db.user(ctx, name)
		if err != nil {
			return err
		}
		if u, err = db.UpdateUser(ctx, u.ID, func(u *store.User) error { return f(db, u) }); err != nil {
			return err
		}
		say(cmd, "%s %s: %s", done, name, allowance(u))
		return nil
	})
}

func newUserPassword() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "password NAME --password-file FILE [flags]",
		Short:   "Give a user another password",
		Long:    "Give a user another password, and switch legacy login on or off if that is asked for.\nTunnels that are up go on.",
		Example: "  tspd user password alice --password-file /root/alice\n  tspd user password alice --password-file /root/alice --legacy-login",
	}
	w := addWhere(cmd, passwordSetting, legacySetting, iterationsSetting, realmSetting)
	return onUser(cmd, func(cmd *cobra.Command, name string) error {
		a, err := config.CheckAccount(w.raw)
		if err != nil {
			return err
		}
		password, err := newPassword(cmd, w.raw, name)
		if err != nil {
			return err
		}
		return w.with(cmd, need{key: a.Legacy}, func(ctx context.Context, db *database) error {
			return w.password(ctx, cmd, db, name, a, password)
		})
	})
}

// password changes that of a user. The keys are made before the transaction: it is
// slow, and meanwhile nobody else could write.
func (w *where) password(ctx context.Context, cmd *cobra.Command, db *database, name string, a config.Account, password config.Secret) error {
	u, err := db.user(ctx, name)
	if err != nil {
		return err
	}
	w.apply(&u, a)
	if u.Legacy && !db.hasKey {
		return fmt.Errorf("user %q has legacy login, but there is no key file %s: %w (--key-file says where it is, --legacy-login=false goes without)",
			name, db.cfg.KeyFile, store.ErrKey)
	}
	if err := db.setPassword(&u, password); err != nil {
		return err
	}
	_, err = db.UpdateUser(ctx, u.ID, func(now *store.User) error {
		now.Scram, now.Digest, now.Legacy = u.Scram, u.Digest, u.Legacy
		return nil
	})
	if err != nil {
		return err
	}
	say(cmd, "changed the password of %s", name)
	db.sayLegacy(cmd, u)
	return nil
}

func newUserSwitch(verb, short string, disabled bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:     verb + " NAME",
		Short:   short,
		Long:    short + ". Address and prefix stay the user's.",
		Example: fmt.Sprintf("  tspd user %s alice", verb),
	}
	w := addWhere(cmd)
	return onUser(cmd, func(cmd *cobra.Command, name string) error {
		return w.change(cmd, name, need{}, verb+"d", func(_ *database, u *store.User) error {
			u.Disabled = disabled
			return nil
		})
	})
}

func newUserRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a user",
		Long: `Remove a user. Addresses and prefixes are given back, and stay unused for --quarantine.
What the log says about the user stays in it.`,
		Example: "  tspd user remove alice",
	}
	w := addWhere(cmd, quarantineSetting)
	return onUser(cmd, func(cmd *cobra.Command, name string) error {
		return w.with(cmd, need{}, func(ctx context.Context, db *database) error {
			u, err := db.user(ctx, name)
			if err != nil {
				return err
			}
			had, err := db.leasesOf(ctx, u.ID)
			if err != nil {
				return err
			}
			if err := db.RemoveUser(ctx, u.ID); err != nil {
				return err
			}
			say(cmd, "removed %s", name)
			for _, l := range had {
				say(cmd, "%s", db.given(l, time.Now()))
			}
			return nil
		})
	})
}

// say writes a line for people.
func say(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...)
}
