package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"sixin4/tsp/broker/store/internal/sqlstore"
)

// maxBatch is how many operations are committed together at most: each is some tenths
// of a millisecond, and nobody shall wait long.
const maxBatch = 256

// A writer that goes on without a pause shuts out other processes, such as an operator's
// command, which only look every tenth of a second whether the database is free.
const (
	stretch = 3 * time.Second        // how long it goes on at most
	rest    = 200 * time.Millisecond // how long it then leaves the database to others
)

// writer commits operations in groups. There is no goroutine for it: one of those that
// want to write does it for all that have come so far, and then hands on to one of
// those that have come since.
type writer struct {
	conn *sql.Conn
	q    *prepared

	mu     sync.Mutex
	queue  []*job
	busy   bool // somebody is writing
	closed bool
	idle   sync.Cond // no longer busy

	// Of who leads:
	began, ended time.Time // the first write without a rest after it, and the last one
}

// job is one operation.
type job struct {
	ctx  context.Context
	f    func(context.Context, sqlstore.Queryer) error
	err  error
	wake chan bool // false: it is done; true: do it, and for the others
}

func newWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn, q: newPrepared(conn)}
	w.idle.L = &w.mu
	return w, nil
}

// do runs f in a transaction of its own, in effect, and returns when it is on the disk.
func (w *writer) do(ctx context.Context, f func(context.Context, sqlstore.Queryer) error) error {
	j := &job{ctx: ctx, f: f, wake: make(chan bool, 1)}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return os.ErrClosed
	}
	w.queue = append(w.queue, j)
	lead := !w.busy
	w.busy = true
	w.mu.Unlock()
	if lead || w.wait(j) {
		w.lead()
	}
	return j.err
}

// wait reports whether it is this job's turn to lead. Otherwise it is done.
func (w *writer) wait(j *job) bool {
	select {
	case lead := <-j.wake:
		return lead
	case <-j.ctx.Done():
	}
	w.mu.Lock()
	if i := slices.Index(w.queue, j); i >= 0 {
		w.queue = slices.Delete(w.queue, i, i+1)
		j.err = j.ctx.Err()
		if len(j.wake) > 0 { // it was to lead
			w.handOn()
		}
		w.mu.Unlock()
		return false
	}
	w.mu.Unlock()
	return <-j.wake // it has begun
}

// lead does the first jobs in the queue, the caller's among them, and hands on.
func (w *writer) lead() {
	w.mu.Lock()
	n := min(len(w.queue), maxBatch)
	batch := slices.Clone(w.queue[:n])
	w.queue = slices.Delete(w.queue, 0, n)
	w.mu.Unlock()

	defer func() { // also when a job panics
		for _, j := range batch {
			j.wake <- false
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.handOn()
	}()
	w.giveWay()
	w.run(batch)
	w.ended = time.Now()
}

// giveWay leaves the database to other processes for a while when it is their turn.
func (w *writer) giveWay() {
	switch now := time.Now(); {
	case now.Sub(w.ended) >= rest: // they had it
		w.began = now
	case now.Sub(w.began) >= stretch:
		time.Sleep(rest)
		w.began = time.Now()
	}
}

// handOn makes another one lead, if somebody waits.
func (w *writer) handOn() {
	if len(w.queue) > 0 {
		w.queue[0].wake <- true
		return
	}
	w.busy = false
	w.idle.Broadcast()
}

// errPanic is what the others see when a job panics.
var errPanic = errors.New("another operation has failed badly")

// run does jobs in one transaction. One that fails takes back only what it did itself.
// What has begun is not cancelled: it would be for all.
func (w *writer) run(batch []*job) {
	ctx := context.WithoutCancel(batch[0].ctx)
	err := errPanic
	defer func() {
		if err == nil {
			return
		}
		w.exec(ctx, "ROLLBACK") // fails when SQLite has done it already
		for _, j := range batch {
			if j.err == nil {
				j.err = fmt.Errorf("write: %w", err)
			}
		}
	}()
	err = w.transact(ctx, batch)
}

func (w *writer) transact(ctx context.Context, batch []*job) error {
	if err := w.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for _, j := range batch {
		if err := w.step(ctx, j); err != nil {
			return err
		}
	}
	return w.exec(ctx, "COMMIT")
}

// step does one job. Its error is about all of the batch.
func (w *writer) step(ctx context.Context, j *job) error {
	if j.err = j.ctx.Err(); j.err != nil {
		return nil
	}
	if err := w.exec(ctx, "SAVEPOINT job"); err != nil {
		return err
	}
	var err error
	if j.err = j.f(ctx, w.q); j.err != nil {
		err = w.exec(ctx, "ROLLBACK TO job")
	}
	return errors.Join(err, w.exec(ctx, "RELEASE job"))
}

func (w *writer) exec(ctx context.Context, query string) error {
	_, err := w.q.ExecContext(ctx, query)
	return err
}

// close waits for the jobs that have come.
func (w *writer) close() error {
	w.mu.Lock()
	w.closed = true
	for w.busy {
		w.idle.Wait()
	}
	w.mu.Unlock()
	return errors.Join(w.q.Close(), w.conn.Close())
}
