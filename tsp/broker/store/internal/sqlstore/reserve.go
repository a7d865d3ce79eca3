package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"sixin4/tsp/broker/store"
)

// How often a reservation is tried when other processes are faster, and how often it is
// enough to look at what they took lately.
const (
	maxTries  = 10
	someTries = 5
)

var errNoExpiry = errors.New("no expiry for the lease of nobody")

// Reserve implements store.Store.
func (s *Store) Reserve(ctx context.Context, w store.Want) (store.Lease, error) {
	l, err := s.reserve(ctx, w)
	if err != nil {
		return store.Lease{}, fmt.Errorf("reserve: %w", err)
	}
	l.Epoch = max(s.now().UnixMicro(), l.Epoch+1)
	l.Server6 = s.space.server()
	return l.Lease, nil
}

func (s *Store) reserve(ctx context.Context, w store.Want) (lease, error) {
	switch {
	case s.space == nil:
		return lease{}, fmt.Errorf("without a pool: %w", errors.ErrUnsupported)
	case w.PrefixLen != 0 && (w.PrefixLen < 48 || w.PrefixLen > 64):
		return lease{}, fmt.Errorf("prefix length %d", w.PrefixLen)
	case w.UserID == "" && w.Expires.IsZero():
		return lease{}, errNoExpiry
	}
	if w.UserID != "" { // most of the time there is nothing to write
		q, err := s.reader()
		if err != nil {
			return lease{}, err
		}
		if l, ok, err := find(ctx, q, w, ""); ok || err != nil {
			return l, err
		}
	}
	return s.tryMake(ctx, w)
}

// tryMake makes a lease, again when the pool turns out to be out of date.
func (s *Store) tryMake(ctx context.Context, w store.Want) (l lease, err error) {
	for try := range maxTries {
		err = s.write(ctx, func(ctx context.Context, t *txn) error {
			l, err = t.findOrMake(ctx, w)
			return err
		})
		switch {
		case errors.Is(err, ErrOverlap), errors.Is(err, ErrDuplicate):
			s.cfg.Logger.Debug("another process has taken what is free here", "error", err)
			look := s.space.refresh
			if try >= someTries {
				look = s.space.load
			}
			if err = look(ctx, s.db.Reader()); err == nil {
				err = store.ErrConflict // when it was the last try
				continue
			}
		case errors.Is(err, store.ErrFull) && s.space.reload():
			s.cfg.Logger.Info("the pool is full: looking for what other processes have freed")
			if again := s.space.load(ctx, s.db.Reader()); again != nil {
				return l, again
			}
			continue
		}
		return l, err
	}
	return l, err
}

func (t *txn) findOrMake(ctx context.Context, w store.Want) (lease, error) {
	if w.UserID != "" {
		l, ok, err := find(ctx, t.q, w, t.store.db.Lock("u"))
		switch {
		case err != nil || ok:
			return l, err
		case l.ID != "":
			return t.addPrefix(ctx, l, w.PrefixLen)
		}
	}
	return t.make(ctx, w)
}

// find looks for a lease of a user. It is complete if ok. Without a prefix that is
// wanted it is not, nor is the zero lease, which means that a new one is to be made.
func find(ctx context.Context, q Queryer, w store.Want, lock string) (l lease, ok bool, err error) {
	most, disabled := 0, false
	err = one(ctx, q, func(r *sql.Rows) error { return r.Scan(&most, &disabled) },
		`SELECT u.max_tunnels, u.disabled FROM users u WHERE u.id = $1`+lock, w.UserID)
	if err == nil && disabled {
		err = store.ErrDisabled
	}
	if err != nil {
		return lease{}, false, fmt.Errorf("user %s: %w", w.UserID, err)
	}
	leases, err := collect(ctx, q, "leases", scanLease, selectLease+`l.user_id = $1 ORDER BY l.id`, w.UserID)
	if err != nil {
		return lease{}, false, err
	}
	l = choose(leases, max(most, 1), w.From)
	return l, l.ID != "" && (l.Prefix.IsValid() || w.PrefixLen == 0), nil
}

// choose takes a user's lease for a session from some address; the zero lease means a
// new one. IDs sort by age: of leases beyond the limit, the oldest count.
func choose(leases []lease, most int, from netip.AddrPort) lease {
	fresh := len(leases) < most
	leases = leases[:min(len(leases), most)]
	if fresh {
		leases = append(leases, lease{})
	}
	if len(leases) == 0 {
		return lease{}
	}
	return slices.MinFunc(leases, func(a, b lease) int {
		return cmp.Or(cmp.Compare(rank(&a, from), rank(&b, from)), a.LastSeen.Compare(b.LastSeen))
	})
}

// rank is the order of store.Reserve.
func rank(l *lease, from netip.AddrPort) int {
	here := l.Outer.Addr() == from.Addr() && from.IsValid()
	switch {
	case l.ID == "": // a new one
		return 3
	case l.State == store.Up && here && (l.Outer.Port() == 0 || l.Outer.Port() == from.Port()):
		return 0
	case l.State != store.Up && here:
		return 1
	case l.State != store.Up:
		return 2
	case here: // the port is another one: perhaps another host behind that address
		return 4
	}
	return 5
}

// make makes a new lease.
func (t *txn) make(ctx context.Context, w store.Want) (lease, error) {
	now := t.store.now()
	l := lease{Lease: store.Lease{
		ID: store.NewID(now), UserID: w.UserID, State: store.Offered, Created: timeOf(micros(now)), Server6: t.store.space.server(),
	}}
	if w.UserID == "" {
		l.Expires = timeOf(micros(w.Expires))
	}
	var err error
	if l.Client6, err = t.store.space.address(); err != nil {
		return lease{}, err
	}
	t.took = append(t.took, netip.PrefixFrom(l.Client6, 128))
	if w.PrefixLen != 0 {
		if l.Prefix, err = t.takePrefix(w.PrefixLen); err != nil {
			return lease{}, err
		}
	}
	return l, t.insert(ctx, &l)
}

func (t *txn) takePrefix(bits int) (netip.Prefix, error) {
	p, err := t.store.space.prefix(bits)
	if err == nil {
		t.took = append(t.took, p)
	}
	return p, err
}

// addPrefix gives a lease its first prefix.
func (t *txn) addPrefix(ctx context.Context, l lease, bits int) (lease, error) {
	p, err := t.takePrefix(bits)
	if err != nil {
		return lease{}, err
	}
	if err := t.store.db.AddBlock(ctx, t.q, p); err != nil {
		return lease{}, err
	}
	l.Prefix = p
	_, err = t.q.ExecContext(ctx, `UPDATE leases SET prefix = $2, changed = $3 WHERE id = $1`,
		l.ID, p.String(), micros(t.store.now()))
	return l, err
}
