package database

import (
	"errors"
	"fmt"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
)

// errLocked: another process has the lock.
var errLocked = errors.New("locked")

// Lock makes this process the only broker on a file of SQLite, until unlock or its end,
// by a lock on the file NAME.lock beside it. So whatever tunnels are up in there are
// those of an earlier run. PostgreSQL is for several brokers, and is not locked.
func Lock(cfg config.Store) (unlock func() error, err error) {
	if cfg.Postgres() {
		return func() error { return nil }, nil
	}
	unlock, err = lock(cfg.State + ".lock")
	switch {
	case errors.Is(err, errLocked):
		return nil, exit.With(exit.TryAgain, fmt.Errorf("database %s: a broker runs on it already; it is for one, several share one of PostgreSQL", cfg.State))
	case errors.Is(err, errors.ErrUnsupported):
		return func() error { return nil }, nil
	case err != nil:
		return nil, Error(fmt.Errorf("lock the database: %w", err))
	}
	return unlock, nil
}
