package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker/store"
)

// writes is what is known of whether the store takes changes: on a full disk it may answer all
// questions and take none. The zero value is one that does.
type writes struct {
	mu  sync.Mutex
	err error // of the first that failed, nil once one has succeeded
}

// mendInterval is between attempts to write to a store that has taken no changes.
const mendInterval = time.Second

// failed returns the error of the store since which it takes no changes, nil when it does.
func (w *writes) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// set notes what came of a write, and reports whether that changes anything.
func (w *writes) set(err error) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed = (w.err == nil) != (err == nil)
	if changed {
		w.err = err
	}
	return changed
}

// aboutAsker are the errors of a store that say something of what was asked for, or of the one who
// did not wait.
var aboutAsker = []error{
	store.ErrNotFound, store.ErrConflict, store.ErrFull, store.ErrDisabled, context.Canceled, context.DeadlineExceeded,
}

// unwritten notes that the store has refused a change, if it did for a reason of its own. The client
// is to be told the error that is returned: to come again later, as it can do nothing about that.
func (t *leases) unwritten(err error) error {
	if err == nil || slices.ContainsFunc(aboutAsker, func(is error) bool { return errors.Is(err, is) }) {
		return err
	}
	if t.writes.set(err) {
		t.b.env.Logger.Error("the database takes no changes, so there are no new tunnels: make room on its disk, or see to its server",
			"error", err)
	}
	return &tsp.Error{Code: tsp.Busy}
}

// mend finds out when a store that takes no changes takes them again, until ctx ends.
func (t *leases) mend(ctx context.Context, ready func()) error {
	ready()
	for waited(ctx, mendInterval) {
		if t.writes.failed() != nil {
			t.tryWrite(ctx)
		}
	}
	return nil
}

// tryWrite makes a lease for nobody, as for a client, and gives it back: nothing less shows that there
// is room for one.
func (t *leases) tryWrite(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	l, err := t.b.store.Reserve(ctx, store.Want{Expires: time.Now().Add(offerTime)})
	if err == nil {
		err = t.b.store.Release(ctx, l.ID, l.Epoch)
	}
	if err != nil { // ErrFull too: it says so without a write
		t.b.env.Logger.Debug("whether the database takes changes again is not known", "error", err)
		return
	}
	t.written()
}

// written notes that the store has taken a change.
func (t *leases) written() {
	if t.writes.set(nil) {
		t.b.env.Logger.Info("the database takes changes again")
	}
}
