package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"time"

	"sixin4/tsp/broker/store"
)

// touchAtOnce is how many leases one transaction touches: few enough that others need
// not wait long.
const touchAtOnce = 500

// Activate implements store.Store.
func (s *Store) Activate(ctx context.Context, a store.Activation) (store.Lease, error) {
	l, err := s.change(ctx, "activate", a.ID, func(ctx context.Context, t *txn, l *lease) error {
		if l.disabled {
			return fmt.Errorf("user %q: %w", l.name, store.ErrDisabled)
		}
		if l.UserID == "" && a.Expires.IsZero() {
			return errNoExpiry
		}
		if a.Epoch < l.Epoch || a.Epoch == l.Epoch && a.Node != l.Node {
			return store.ErrConflict
		}
		return t.activate(ctx, l, a)
	})
	return l.Lease, err
}

func (t *txn) activate(ctx context.Context, l *lease, a store.Activation) error {
	same := l.State == store.Up && l.Epoch == a.Epoch && l.Type == a.Type && l.Outer == a.Outer
	l.State, l.Epoch, l.Node, l.Type, l.Outer = store.Up, a.Epoch, a.Node, a.Type, a.Outer
	l.Local, l.Merged = a.Local, a.Merged
	l.LastSeen = timeOf(micros(t.store.now()))
	if l.UserID == "" {
		l.Expires = timeOf(micros(a.Expires))
	}
	if t.store.space != nil {
		l.Server6 = t.store.space.server()
	}
	if err := t.update(ctx, l); err != nil || same {
		return err
	}
	return t.log(ctx, store.Began, l)
}

// change does something to one lease that is not in quarantine.
func (s *Store) change(ctx context.Context, op, id string, f func(context.Context, *txn, *lease) error) (l lease, err error) {
	err = s.write(ctx, func(ctx context.Context, t *txn) error {
		if l, err = t.lease(ctx, id); err != nil {
			return err
		}
		if l.State == store.Quarantined {
			return store.ErrNotFound
		}
		return f(ctx, t, &l)
	})
	if err != nil {
		return lease{}, fmt.Errorf("%s lease %s: %w", op, id, err)
	}
	return l, nil
}

// Deactivate implements store.Store.
func (s *Store) Deactivate(ctx context.Context, id string, epoch int64) error {
	_, err := s.change(ctx, "deactivate", id, func(ctx context.Context, t *txn, l *lease) error {
		if epoch < l.Epoch {
			return store.ErrConflict
		}
		return t.end(ctx, *l)
	})
	return err
}

// Release implements store.Store.
func (s *Store) Release(ctx context.Context, id string, epoch int64) error {
	_, err := s.change(ctx, "release", id, func(ctx context.Context, t *txn, l *lease) error {
		if epoch < l.Epoch {
			return store.ErrConflict
		}
		return t.giveBack(ctx, *l)
	})
	return err
}

// Touch implements store.Store.
func (s *Store) Touch(ctx context.Context, seen []store.Seen) (lost []string, err error) {
	for chunk := range slices.Chunk(seen, touchAtOnce) {
		var gone []string
		err := s.write(ctx, func(ctx context.Context, t *txn) (err error) {
			gone, err = s.db.Touch(ctx, t.q, chunk)
			return err
		})
		if err != nil {
			return lost, fmt.Errorf("touch %d leases: %w", len(seen), err)
		}
		lost = append(lost, gone...)
	}
	return lost, nil
}

// Micros is a time as it is stored, for the implementations of DB.Touch.
func Micros(t time.Time) int64 { return micros(t) }

// public is scanLease for callers.
func public(r *sql.Rows) (store.Lease, error) {
	l, err := scanLease(r)
	return l.Lease, err
}

// Lease implements store.Store.
func (s *Store) Lease(ctx context.Context, id string) (l store.Lease, err error) {
	q, err := s.reader()
	switch {
	case err != nil:
	case !plain(id): // whatever somebody has sent
		err = store.ErrNotFound
	default:
		err = one(ctx, q, func(r *sql.Rows) (err error) {
			l, err = public(r)
			return err
		}, selectLease+`l.id = $1`, id)
	}
	if err != nil {
		return store.Lease{}, fmt.Errorf("lease %s: %w", id, err)
	}
	return l, nil
}

// Leases implements store.Store.
func (s *Store) Leases(ctx context.Context) iter.Seq2[store.Lease, error] {
	return paged(func(last *store.Lease) ([]store.Lease, error) {
		after := ""
		if last != nil {
			after = last.ID
		}
		return s.leases(ctx, `l.id > $1 ORDER BY l.id LIMIT $2`, after, page)
	})
}

// Live implements store.Store.
func (s *Store) Live(ctx context.Context, node string) ([]store.Lease, error) {
	if node == "" {
		return s.leases(ctx, `l.state = 'up' ORDER BY l.id`)
	}
	return s.leases(ctx, `l.node = $1 AND l.state = 'up' ORDER BY l.id`, node)
}

func (s *Store) leases(ctx context.Context, where string, args ...any) ([]store.Lease, error) {
	q, err := s.reader()
	if err != nil {
		return nil, fmt.Errorf("leases: %w", err)
	}
	return collect(ctx, q, "leases", public, selectLease+where, args...)
}

// ExpireBefore implements store.Store.
func (s *Store) ExpireBefore(ctx context.Context, before time.Time) ([]store.Lease, error) {
	var expired []store.Lease
	for {
		due, err := s.due(ctx, before)
		if err != nil || len(due) == 0 {
			return expired, err
		}
		var some []store.Lease
		err = s.write(ctx, func(ctx context.Context, t *txn) (err error) {
			some, err = t.expire(ctx, due, before)
			return err
		})
		if err != nil {
			return expired, fmt.Errorf("expire leases: %w", err)
		}
		expired = append(expired, some...)
	}
}

// due are IDs of leases that expire before some time. Their quarantine, if it begins
// now, does not end before that time, or the caller's loop would not end.
func (s *Store) due(ctx context.Context, before time.Time) ([]string, error) {
	q, err := s.reader()
	if err != nil {
		return nil, fmt.Errorf("expire leases: %w", err)
	}
	return collect(ctx, q, "expire leases", func(r *sql.Rows) (id string, err error) {
		err = r.Scan(&id)
		return id, err
	}, `SELECT id FROM leases WHERE expires > 0 AND expires < $1 ORDER BY expires, id LIMIT $2`, micros(before), page)
}

// expire does what is due, if it still is.
func (t *txn) expire(ctx context.Context, ids []string, before time.Time) (expired []store.Lease, err error) {
	for _, id := range ids {
		l, err := t.lease(ctx, id)
		switch {
		case isGone(err), err == nil && !(l.Expires.Before(before) && !l.Expires.IsZero()):
			continue
		case err != nil:
			return nil, err
		case l.State == store.Quarantined:
			err = t.remove(ctx, &l)
		default:
			expired = append(expired, l.Lease)
			err = t.giveBack(ctx, l)
		}
		if err != nil {
			return nil, err
		}
	}
	return expired, nil
}
