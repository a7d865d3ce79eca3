package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
	databases "sixin4/cmd/internal/database"
	"sixin4/tsp/broker/store"
)

// The settings that serve shares with the commands beside it.
var (
	prefixSetting     = cli.Flag(config.Prefix, "PREFIX", "the IPv6 network that is routed to this host, /20 to /64")
	stateSetting      = cli.Flag(config.State, "FILE|URL", "the database: a file, or postgres://USER@HOST/NAME?passfile=FILE for several brokers; default "+config.DefaultState)
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

	keyless bool // do without the key
	alone   bool // no broker may run
}

// with runs f on the database.
func (w *where) with(cmd *cobra.Command, need need, f func(ctx context.Context, db *database) error) error {
	if err := merge(w.raw, w.file); err != nil {
		return err
	}
	db, err := w.open(cmd.Context(), need)
	if err != nil {
		return err
	}
	err = f(cmd.Context(), db)
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	return databases.Error(err)
}

func (w *where) open(ctx context.Context, need need) (db *database, err error) {
	db = new(database)
	if db.cfg, err = config.CheckStore(w.raw); err != nil {
		return nil, err
	}
	c := databases.Config{Store: db.cfg, Create: need.create, MakeKey: need.key, Keyless: need.keyless, Alone: need.alone}
	if need.pool {
		if c.Pool, err = config.CheckPool(w.raw); err != nil {
			return nil, err
		}
	}
	opened, err := databases.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	db.Store, db.hasKey = opened, opened.HasKey
	return db, nil
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
