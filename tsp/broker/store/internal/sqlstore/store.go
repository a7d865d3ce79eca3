package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sixin4/tsp/broker/store"
)

// Store implements store.Store on a DB.
type Store struct {
	cfg    store.Config
	db     DB
	space  *space // nil without a pool
	closed atomic.Bool
	close  func() error
}

// New makes a store of a database whose tables are there. It checks the key and that
// no two leases overlap. It owns db from now on, also when there is an error.
func New(ctx context.Context, cfg store.Config, db DB) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Quarantine == 0 {
		cfg.Quarantine = store.DefaultQuarantine
	}
	if cfg.Signups == 0 {
		cfg.Signups = store.MaxSignups
	}
	if cfg.SignupsOfSource == 0 {
		cfg.SignupsOfSource = store.MaxSignupsOfSource
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg, db: db, close: sync.OnceValue(db.Close)}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), db.Close())
	}
	return s, nil
}

func (s *Store) start(ctx context.Context) error {
	if s.cfg.Key != nil {
		if err := s.checkKey(ctx); err != nil {
			return err
		}
	}
	if !s.cfg.Pool.IsValid() {
		return nil
	}
	sp, err := newSpace(ctx, s.cfg, s.db.Reader())
	s.space = sp
	return err
}

// Close waits for what is being written.
func (s *Store) Close() error {
	s.closed.Store(true)
	return s.close()
}

// reader runs statements that only read.
func (s *Store) reader() (Queryer, error) {
	if s.closed.Load() {
		return nil, os.ErrClosed
	}
	return s.db.Reader(), nil
}

// write runs f in a transaction. When it is not committed, what f took from the pool
// is free again; what it gave back is free only after the commit.
func (s *Store) write(ctx context.Context, f func(ctx context.Context, t *txn) error) error {
	if s.closed.Load() {
		return os.ErrClosed
	}
	t := &txn{store: s}
	err := s.db.Write(ctx, func(ctx context.Context, q Queryer) error {
		t.undo()
		t.q = q
		return f(ctx, t)
	})
	if err != nil {
		t.undo()
		return err
	}
	t.commit()
	return nil
}

func (s *Store) now() time.Time { return s.cfg.Now() }

// micros is a time as it is stored.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// timeOf is the time of what is stored.
func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
