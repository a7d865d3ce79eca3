package daemon

import (
	"context"
	"errors"
	"sync"

	"sixin4/tsp/broker/store"
)

// debt is the end of a tunnel that belongs on record.
type debt struct {
	id      string
	epoch   int64
	release bool // the lease is free, too
}

// debts are those that the store did not take. They are tried again until it does; if
// this process ends before, the next one finds the tunnel up in the store, and silent.
type debts struct {
	mu   sync.Mutex
	open []debt
}

// pay puts the end of a tunnel on record, or keeps it for later.
func (d *debts) pay(ctx context.Context, b *brokerage, x debt) {
	over := b.store.Deactivate
	if x.release {
		over = b.store.Release
	}
	err := over(ctx, x.id, x.epoch)
	if err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
		return
	}
	_ = b.leases.unwritten(err)
	b.env.Logger.Warn("the end of a tunnel is not on record yet", "lease", x.id, "error", err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = append(d.open, x)
}

// retry pays what is open, up to the first that fails again.
func (d *debts) retry(ctx context.Context, b *brokerage) {
	d.mu.Lock()
	open := d.open
	d.open = nil
	d.mu.Unlock()
	for i, x := range open {
		d.pay(ctx, b, x)
		d.mu.Lock()
		failed := len(d.open) > 0
		if failed {
			d.open = append(d.open, open[i+1:]...)
		}
		d.mu.Unlock()
		if failed {
			return
		}
	}
}
