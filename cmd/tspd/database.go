package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/sqlite"
)

// The settings that serve shares with the commands beside it.
var (
	prefixSetting     = cli.Flag(config.Prefix, "PREFIX", "the IPv6 network that is routed to this host, /20 to /64")
	stateSetting      = cli.Flag(config.State, "FILE", "the database; default "+config.DefaultState)
	keySetting        = cli.Flag(config.KeyFile, "FILE", "the key for what is encrypted in the database; default: tspd.key beside it")
	quarantineSetting = cli.Flag(config.Quarantine, "TIME", "how long an address or prefix stays unused after it was given back; default 7d; 0 for not at all")
	iterationsSetting = cli.Flag(config.Iterations, "N", "rounds of PBKDF2 for passwords that are set from now on; default 100000; the same for all users, or others could tell who exists")
	realmSetting      = cli.Flag(config.Realm, "NAME", "part of what is stored for legacy login; default sixin4; it should stay the same for ever")
)

// addConfig gives cmd the flag --config.
func addConfig(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "read settings from this `FILE` (tspd help config)")
}

// merge adds what the file says, if there is one, to the flags in raw.
func merge(raw config.Raw, file string) error {
	if file == "" {
		return nil
	}
	more, err := config.ReadBroker(file)
	if err == nil {
		raw.Merge(more)
	}
	return err
}

// where are the flags that say which database a command works on.
type where struct {
	raw  config.Raw
	file string
}

// addWhere gives cmd flags for the database, and for more.
func addWhere(cmd *cobra.Command, more ...cli.Setting) *where {
	w := &where{raw: make(config.Raw)}
	cmd.Flags().SortFlags = false
	cli.AddOnly(cmd, w.raw, append(more, stateSetting, keySetting))
	addConfig(cmd, &w.file)
	return w
}

// database is the store of a broker, and what the configuration says about it.
type database struct {
	store.Store
	cfg    config.Store
	hasKey bool
}

// need is what a command needs of the database; the zero need is that it is there.
type need struct {
	create bool // make it when it is not there
	key    bool // make the key file when it is not there
	pool   bool // know what is free
}

// with runs f on the database.
func (w *where) with(cmd *cobra.Command, need need, f func(ctx context.Context, db *database) error) error {
	if err := merge(w.raw, w.file); err != nil {
		return err
	}
	db, err := w.open(cmd.Context(), need)
	if err != nil {
		return storeError(err)
	}
	err = f(cmd.Context(), db)
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	return storeError(err)
}

func (w *where) open(ctx context.Context, need need) (*database, error) {
	cfg, err := config.CheckStore(w.raw)
	if err != nil {
		return nil, err
	}
	c := sqlite.Config{Path: cfg.State, Config: store.Config{Quarantine: cfg.Quarantine}}
	if c.Quarantine == 0 {
		c.Quarantine = -1 // that is how the store says none
	}
	if need.pool {
		if c.Pool, err = config.CheckPool(w.raw); err != nil {
			return nil, err
		}
	}
	if err := findFile(cfg.State, need.create); err != nil {
		return nil, err
	}
	made := false
	if c.Key, made, err = findKey(cfg.KeyFile, need.key); err != nil {
		return nil, err
	}
	s, err := sqlite.Open(ctx, c)
	if made && errors.Is(err, store.ErrKey) {
		err = errors.Join(err, os.Remove(cfg.KeyFile)) // there is another one somewhere
	}
	return &database{Store: s, cfg: cfg, hasKey: c.Key != nil}, err
}

// findFile makes the directory of a database that is to be made. Otherwise the
// database must be there: a new one in a wrong place would look like lost users.
func findFile(path string, create bool) error {
	if create {
		return os.MkdirAll(filepath.Dir(path), 0o700)
	}
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no database %s (tspd serve and tspd user add make one; --state or --config says where it is)", path)
	}
	return err
}

// findKey opens the key file, which it makes if asked; otherwise there is no key when
// there is no file.
func findKey(path string, create bool) (k *store.Key, made bool, err error) {
	_, err = os.Stat(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if missing && !create {
		return nil, false, nil
	}
	k, err = store.OpenKey(path)
	return k, missing && err == nil, err
}

// storeError gives an error its exit status, unless it has one.
func storeError(err error) error {
	var coded *exit.Error
	switch {
	case errors.As(err, &coded):
		return err
	case errors.Is(err, fs.ErrPermission):
		return exit.With(exit.Permission, err)
	case errors.Is(err, store.ErrKey):
		return exit.With(exit.Config, err)
	case errors.Is(err, store.ErrConflict):
		return exit.With(exit.TryAgain, err)
	}
	return err
}

// user finds a user by name.
func (db *database) user(ctx context.Context, name string) (store.User, error) {
	u, err := db.UserByName(ctx, name)
	if !errors.Is(err, store.ErrNotFound) {
		return u, err
	}
	var known []string
	for u, err := range db.Users(ctx) {
		if err != nil {
			return store.User{}, err
		}
		known = append(known, u.Name)
	}
	if n := config.Nearest(name, known); n != "" {
		return store.User{}, fmt.Errorf("no user %q; the nearest is %s", name, n)
	}
	return store.User{}, fmt.Errorf("no user %q (tspd user list shows them)", name)
}
