package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"sixin4/tsp/broker/pool"
	"sixin4/tsp/broker/store"
)

const (
	// skew is by how much the clocks of two brokers may differ.
	skew = 10 * time.Minute
	// reloadEvery bounds how often a full pool is read again.
	reloadEvery = time.Minute
)

// space is the pool, with what this process knows of what is taken. The database knows
// better: others may have taken or freed something. That is found out when it refuses
// a block, or when nothing is left here.
type space struct {
	cfg store.Config

	mu      sync.Mutex
	pool    *pool.Pool
	pending map[netip.Prefix]bool // taken by transactions that are under way
	synced  time.Time             // what others took before, we know
	loaded  time.Time
}

func newSpace(ctx context.Context, cfg store.Config, q Queryer) (*space, error) {
	sp := &space{cfg: cfg, pending: map[netip.Prefix]bool{}}
	return sp, sp.load(ctx, q)
}

// load reads all that is taken.
func (sp *space) load(ctx context.Context, q Queryer) error {
	now := sp.cfg.Now()
	taken, err := sp.taken(ctx, q, time.Time{})
	if err != nil {
		return err
	}
	p, err := pool.New(sp.cfg.Pool, taken)
	if err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for b := range sp.pending {
		p.Take(b) // if it is in taken, it was just committed
	}
	sp.pool, sp.synced, sp.loaded = p, now, now
	return nil
}

// refresh reads what was taken lately.
func (sp *space) refresh(ctx context.Context, q Queryer) error {
	now := sp.cfg.Now()
	sp.mu.Lock()
	since := sp.synced.Add(-skew)
	sp.mu.Unlock()
	taken, err := sp.taken(ctx, q, since)
	if err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, t := range taken {
		sp.pool.Take(t.Block) // most are known
	}
	sp.synced = now
	return nil
}

// taken are the blocks of all leases that got one since some time. Those in quarantine
// that belong to another pool are nobody's business any more.
func (sp *space) taken(ctx context.Context, q Queryer, since time.Time) ([]pool.Taken, error) {
	var all []pool.Taken
	err := each(ctx, q, func(r *sql.Rows) error {
		var client6, prefix, state, name string
		if err := r.Scan(&client6, &prefix, &state, &name); err != nil {
			return err
		}
		blocks, err := parseBlocks(client6, prefix)
		for _, b := range blocks {
			if state != string(store.Quarantined) || sp.cfg.Pool.Contains(b.Addr()) {
				all = append(all, pool.Taken{Block: b, Owner: owner(name, state)})
			}
		}
		return err
	}, `SELECT l.client6, COALESCE(l.prefix, ''), l.state, COALESCE(u.name, '')
		FROM leases l LEFT JOIN users u ON u.id = l.user_id WHERE l.changed >= $1`, micros(since))
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	return all, nil
}

// owner names one in an error.
func owner(name, state string) string {
	switch {
	case state == string(store.Quarantined):
		return "the quarantine"
	case name == "":
		return "an anonymous user"
	}
	return fmt.Sprintf("user %q", name)
}

// parseBlocks are those of a lease.
func parseBlocks(client6, prefix string) ([]netip.Prefix, error) {
	addr, err := netip.ParseAddr(client6)
	if err != nil {
		return nil, err
	}
	blocks := []netip.Prefix{netip.PrefixFrom(addr, 128)}
	if prefix != "" {
		p, err := netip.ParsePrefix(prefix)
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, p)
	}
	return blocks, nil
}

// address takes one.
func (sp *space) address() (netip.Addr, error) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	a, err := sp.pool.Address()
	if err == nil {
		sp.pending[netip.PrefixFrom(a, 128)] = true
	}
	return a, storeFull(err)
}

// prefix takes one of a length.
func (sp *space) prefix(bits int) (netip.Prefix, error) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	p, err := sp.pool.Prefix(bits)
	if err == nil {
		sp.pending[p] = true
	}
	return p, storeFull(err)
}

// storeFull makes a full pool a full store.
func storeFull(err error) error {
	if errors.Is(err, pool.ErrFull) {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}

// free gives blocks back that are in no lease now.
func (sp *space) free(blocks ...netip.Prefix) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, b := range blocks {
		delete(sp.pending, b)
		sp.pool.Free(b) // unknown when another process took it, which is as good
	}
}

// keep notes that blocks are in a lease now.
func (sp *space) keep(blocks []netip.Prefix) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for _, b := range blocks {
		delete(sp.pending, b)
	}
}

// server is the broker's address.
func (sp *space) server() netip.Addr {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.pool.Server()
}

// reload reports whether it is worth to look for what others freed. It says so to one
// caller from time to time.
func (sp *space) reload() bool {
	now := sp.cfg.Now()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if now.Sub(sp.loaded) < reloadEvery {
		return false
	}
	sp.loaded = now
	return true
}

func (sp *space) usage() store.Usage {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	u := sp.pool.Usage()
	return store.Usage{Pool: sp.cfg.Pool, Addresses: u.Addresses, Prefixes: u.Prefixes, Free: u.Free, Largest: u.Largest}
}

// Usage implements store.Store.
func (s *Store) Usage() store.Usage {
	if s.space == nil {
		return store.Usage{}
	}
	return s.space.usage()
}
