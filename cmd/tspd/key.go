package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	databases "sixin4/cmd/internal/database"
	"sixin4/cmd/internal/exit"
	"sixin4/tsp/broker/store"
)

const keyHelp = `The key file encrypts what is as good as a password in the database: the hashes of
users with --legacy-login. A broker does not start without the right one.`

const keyReplaceHelp = `Make a new key file, and have the database encrypted with it. The broker must not run
meanwhile.

With the old key file nothing is lost. Without it, the hashes for DIGEST-MD5 cannot be
read any more: the command says whose they are, and goes on only with
--without-old-key. These users can log in by the other mechanisms still; for DIGEST-MD5
they need their password set anew (tspd user password NAME --legacy-login).`

func newKey() *cobra.Command {
	return group("key", "Replace the key file", keyHelp, "  tspd key replace", newKeyReplace())
}

func newKeyReplace() *cobra.Command {
	var without bool
	cmd := &cobra.Command{
		Use:     "replace [flags]",
		Short:   "Make a new key file",
		Long:    keyReplaceHelp,
		Example: "  tspd key replace\n  tspd key replace --without-old-key",
	}
	cmd.Flags().BoolVar(&without, "without-old-key", false, "go on although the old key is lost")
	w := addWhere(cmd)
	cmd.Args = cli.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return w.with(cmd, need{keyless: true, alone: true}, func(ctx context.Context, db *database) error {
			return db.replaceKey(ctx, cmd, without)
		})
	}
	return cmd
}

// replaceKey first makes the new key beside the old, then changes the database, and
// gives the files their names last: whenever it is cut short, both keys are there.
func (db *database) replaceKey(ctx context.Context, cmd *cobra.Command, without bool) error {
	old, err := db.oldKey(ctx)
	switch {
	case err != nil:
		return err
	case old == nil && !without:
		return db.sayLost(ctx)
	}
	fresh, kept := db.cfg.KeyFile+".new", db.cfg.KeyFile+".old"
	if err := checkNone(fresh, kept); err != nil {
		return err
	}
	key, err := store.MakeKey(fresh)
	if err != nil {
		return err
	}
	lost, err := db.ReplaceKey(ctx, old, key)
	if err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	if err := os.Rename(db.cfg.KeyFile, kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(fresh, db.cfg.KeyFile); err != nil {
		return err
	}
	db.sayReplaced(cmd, kept, lost)
	return nil
}

// checkNone wants no files of an earlier replacement.
func checkNone(fresh, kept string) error {
	for path, what := range map[string]string{
		fresh: "is of a replacement that was cut short: it is the key if the one in place is not; move it there or remove it",
		kept:  "is the key of before the last replacement, for backups of that time: move it to where they are",
	} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return exit.With(exit.Config, fmt.Errorf("%s %s", path, what))
		}
	}
	return nil
}

// oldKey is the key of the database, nil when the key file is missing or another's.
func (db *database) oldKey(ctx context.Context) (*store.Key, error) {
	if _, err := os.Stat(db.cfg.KeyFile); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	k, err := store.OpenKey(db.cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	d, err := databases.Open(ctx, databases.Config{Store: db.cfg})
	if errors.Is(err, store.ErrKey) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return k, d.Close()
}

// sayLost is the error that says who loses what without the old key.
func (db *database) sayLost(ctx context.Context) error {
	var legacy []string
	for u, err := range db.Users(ctx) {
		if err != nil {
			return err
		}
		if u.Legacy {
			legacy = append(legacy, u.Name)
		}
	}
	who := "nobody has legacy login"
	if len(legacy) > 0 {
		who = "these need their password set anew for DIGEST-MD5: " + strings.Join(legacy, ", ")
	}
	return exit.With(exit.Config, fmt.Errorf("the key of the database is not in %s: put it there, or go on --without-old-key; then %s", db.cfg.KeyFile, who))
}

func (db *database) sayReplaced(cmd *cobra.Command, kept string, lost []string) {
	say(cmd, "the new key is in %s: back it up, but not beside the database", db.cfg.KeyFile)
	if _, err := os.Stat(kept); err == nil {
		say(cmd, "%s is the one of before, for backups of the database", kept)
	}
	if len(lost) > 0 {
		say(cmd, "for DIGEST-MD5 these need their password set anew: %s", strings.Join(lost, ", "))
	}
}
