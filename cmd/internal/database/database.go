// Package database opens the database of a broker of tunnels (RFC 5572) as all commands
// of tspd do: a file of SQLite, which is one broker's, or PostgreSQL, which several
// share.
package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/postgres"
	"sixin4/tsp/broker/store/sqlite"
)

// Config says which database, and what it is needed for.
type Config struct {
	config.Store
	Pool    netip.Prefix // as of store.Config
	Create  bool         // make the file when it is not there
	MakeKey bool         // make the key file when it is not there
	Keyless bool         // do without the key, whatever it is
	Alone   bool         // as the only broker, with Lock; Close unlocks
	Logger  *slog.Logger // nil discards
}

// Database is an open store.
type Database struct {
	store.Store
	HasKey bool // what is encrypted can be read
	unlock func() error
}

// Close closes the store, and lets another broker have it.
func (d *Database) Close() error { return errors.Join(d.Store.Close(), d.unlock()) }

// Open opens a database. Errors carry the exit status where that is not 1.
func Open(ctx context.Context, cfg Config) (*Database, error) {
	d, err := open(ctx, cfg)
	return d, Error(err)
}

func open(ctx context.Context, cfg Config) (*Database, error) {
	c := store.Config{Pool: cfg.Pool, Quarantine: cfg.Quarantine, Logger: cfg.Logger}
	if c.Quarantine == 0 {
		c.Quarantine = -1 // that is how the store says none
	}
	if err := findFile(cfg); err != nil {
		return nil, err
	}
	// The lock comes first: what opens a store brings its tables to a version that the
	// broker that has it may not know.
	d := &Database{unlock: func() error { return nil }}
	var err error
	if cfg.Alone {
		if d.unlock, err = Lock(cfg.Store); err != nil {
			return nil, err
		}
	}
	if err = d.open(ctx, cfg, c); err != nil {
		return nil, errors.Join(err, d.unlock())
	}
	return d, nil
}

func (d *Database) open(ctx context.Context, cfg Config, c store.Config) (err error) {
	made := false
	if !cfg.Keyless {
		if c.Key, made, err = findKey(cfg.KeyFile, cfg.MakeKey); err != nil {
			return err
		}
	}
	d.HasKey = c.Key != nil
	d.Store, err = openStore(ctx, cfg, c)
	if errors.Is(err, store.ErrKey) {
		err = wrongKey(cfg, made, err)
	}
	return err
}

func openStore(ctx context.Context, cfg Config, c store.Config) (store.Store, error) {
	if cfg.Postgres() {
		return postgres.Open(ctx, postgres.Config{DSN: cfg.State, Config: c})
	}
	return sqlite.Open(ctx, sqlite.Config{Path: cfg.State, Config: c})
}

// wrongKey says what to do. One that was made just now goes again.
func wrongKey(cfg Config, made bool, err error) error {
	what := "is another one"
	if made {
		what = "is lost"
		err = errors.Join(err, os.Remove(cfg.KeyFile))
	}
	return fmt.Errorf("%w; the key file %s %s: put the right one there, or have tspd key replace make a new one, "+
		"which says whose passwords must be set anew", err, cfg.KeyFile, what)
}

// findFile makes the directory of a database that is to be made. Otherwise the
// database must be there: a new one in a wrong place would look like lost users.
func findFile(cfg Config) error {
	switch {
	case cfg.Postgres():
		return os.MkdirAll(filepath.Dir(cfg.KeyFile), 0o700)
	case cfg.Create:
		if err := os.MkdirAll(filepath.Dir(cfg.State), 0o700); err != nil {
			return err
		}
	}
	info, err := os.Stat(cfg.State)
	switch {
	case errors.Is(err, fs.ErrNotExist) && cfg.Create:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no database %s (tspd serve and tspd user add make one; --state or --config says where it is)", cfg.State)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return exit.With(exit.Config, fmt.Errorf("database %s: not a file, so none of ours", cfg.State))
	case info.Mode().Perm()&0o002 != 0:
		const told = "database %s: mode %04o lets everybody write it, and so become an operator (look into it, then chmod o-w)"
		return exit.With(exit.Config, fmt.Errorf(told, cfg.State, info.Mode().Perm()))
	}
	return nil
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

// Error gives an error of a store its exit status, unless it has one.
func Error(err error) error {
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
