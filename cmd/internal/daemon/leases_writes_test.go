package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sixin4/cmd/internal/metrics"
	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
)

// fullDisk is a store that answers all questions, and takes changes only while there is room.
type fullDisk struct {
	store.Store
	full  atomic.Bool
	given chan string // back; leases
}

var errFull = errors.New("database or disk is full (13)")

func (f *fullDisk) write(do func() error) error {
	if f.full.Load() {
		return fmt.Errorf("write: %w", errFull)
	}
	return do()
}

func (f *fullDisk) Reserve(ctx context.Context, w store.Want) (l store.Lease, err error) {
	err = f.write(func() error { l, err = f.Store.Reserve(ctx, w); return err })
	return l, err
}

func (f *fullDisk) Activate(ctx context.Context, a store.Activation) (l store.Lease, err error) {
	err = f.write(func() error { l, err = f.Store.Activate(ctx, a); return err })
	return l, err
}

func (f *fullDisk) Touch(ctx context.Context, seen []store.Seen) (lost []string, err error) {
	err = f.write(func() error { lost, err = f.Store.Touch(ctx, seen); return err })
	return lost, err
}

func (f *fullDisk) Deactivate(ctx context.Context, id string, epoch int64) error {
	return f.write(func() error { return f.Store.Deactivate(ctx, id, epoch) })
}

func (f *fullDisk) Release(ctx context.Context, id string, epoch int64) error {
	return f.write(func() error {
		err := f.Store.Release(ctx, id, epoch)
		f.given <- id
		return err
	})
}

// onFullDisk is an office whose store is a fullDisk, with a server.
func onFullDisk(t *testing.T) (office, *fullDisk) {
	o := newOffice(t)
	f := &fullDisk{Store: o.b.store, given: make(chan string, 16)}
	o.b.store = f
	var err error
	o.b.server, err = broker.New(broker.Config{Provisioner: o.leases, Accounts: accounts{f}, Secret: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	return o, f
}

// dbUp is the sample of that name.
func (o office) dbUp() string {
	var p metrics.Page
	o.b.collect(o.t.Context(), &p)
	for line := range bytes.Lines(p.Bytes()) {
		if v, ok := strings.CutPrefix(string(line), "sixin4_broker_db_up "); ok {
			return strings.TrimSpace(v)
		}
	}
	return "none"
}

// TestDiskFull: whatever finds that the store takes no changes, clients are told to come again later,
// and the broker is not ready; by itself it is again when there is room.
func TestDiskFull(t *testing.T) {
	for name, find := range map[string]func(o office, up, offered *broker.Grant) error{
		"create": func(o office, _, _ *broker.Grant) error {
			_, err := o.request(nil, "192.0.2.7", tsp.Request{})
			return err
		},
		"accept": func(o office, _, offered *broker.Grant) error { return o.Accept(o.t.Context(), offered) },
		"who was heard": func(o office, _, _ *broker.Grant) error {
			o.touch(o.t.Context())
			return &tsp.Error{Code: tsp.Busy}
		},
		"the end of a tunnel": func(o office, up, _ *broker.Grant) error {
			o.Close(up, false)
			return &tsp.Error{Code: tsp.Busy}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, f := onFullDisk(t)
			up, err := o.request(nil, "192.0.2.1", tsp.Request{})
			if err == nil {
				err = o.Accept(t.Context(), up)
			}
			offered, err2 := o.request(nil, "192.0.2.3", tsp.Request{})
			if err := errors.Join(err, err2, o.b.serves(t.Context())); err != nil || o.dbUp() != "1" {
				t.Fatalf("before: %v, up %s", err, o.dbUp())
			}
			f.full.Store(true)
			if err := find(o, up, offered); !isCode(err, tsp.Busy) {
				t.Errorf("%v, want status %d", err, tsp.Busy)
			}
			o.tryWrite(t.Context())
			if err := o.b.serves(t.Context()); err == nil || !strings.Contains(err.Error(), "takes no changes") || o.dbUp() != "0" {
				t.Errorf("ready: %v, up %s; want neither", err, o.dbUp())
			}
			f.full.Store(false)
			o.tryWrite(t.Context())
			if err := o.b.serves(t.Context()); err != nil || o.dbUp() != "1" {
				t.Errorf("with room again: %v, up %s", err, o.dbUp())
			}
		})
	}
}

// TestDiskFullMend: it is found out without anybody asking, and nothing is left of the attempt.
func TestDiskFullMend(t *testing.T) {
	o, f := onFullDisk(t)
	_ = o.unwritten(errFull)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- o.mend(ctx, func() {}) }()
	select {
	case <-f.given:
	case <-time.After(10 * mendInterval):
		t.Error("nothing is tried")
	}
	cancel()
	if err := errors.Join(<-ended, o.b.serves(t.Context())); err != nil {
		t.Error(err)
	}
	if n := o.b.countLeases(t.Context()); len(n) != 0 {
		t.Errorf("left are %v", n)
	}
}

// TestNotTheDisk: what the store says of the client is no fault of the store.
func TestNotTheDisk(t *testing.T) {
	o, _ := onFullDisk(t)
	for _, err := range []error{
		store.ErrNotFound, store.ErrConflict, store.ErrFull, store.ErrDisabled, context.Canceled, context.DeadlineExceeded, nil,
	} {
		if got := o.unwritten(err); got != err || o.writes.failed() != nil {
			t.Errorf("%v: the client is told %v, and what is known is %v", err, got, o.writes.failed())
		}
	}
}
