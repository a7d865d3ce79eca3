package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/internal/sqlstore"
)

// numbers is a writer on a table of numbers.
type numbers struct {
	*testing.T
	db *database
	wg sync.WaitGroup
}

func newNumbers(t *testing.T) *numbers {
	db, err := openDB(t.Context(), filepath.Join(t.TempDir(), "n.db"))
	if err != nil {
		t.Fatal(err)
	}
	n := &numbers{T: t, db: db}
	t.Cleanup(func() { db.Close() })
	n.add(t.Context(), 0, nil)
	return n
}

// add writes a number; then does what comes next in the transaction.
func (n *numbers) add(ctx context.Context, number int, then func() error) error {
	return n.db.Write(ctx, func(ctx context.Context, q sqlstore.Queryer) error {
		if _, err := q.ExecContext(ctx, `INSERT INTO facts VALUES ($1, x'')`, strconv.Itoa(number)); err != nil {
			return err
		}
		if then != nil {
			return then()
		}
		return nil
	})
}

// goAdd is add in a goroutine that is waiting for its turn when goAdd returns.
func (n *numbers) goAdd(ctx context.Context, number int, then func() error, check func(error)) {
	w := n.db.writer
	queued := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.queue)
	}
	before := queued()
	n.wg.Go(func() { check(n.add(ctx, number, then)) })
	for queued() == before {
		runtime.Gosched()
	}
}

// busy makes the writer busy until release is called.
func (n *numbers) busy() (release func()) {
	begun, end := make(chan struct{}), make(chan struct{})
	n.wg.Go(func() {
		if err := n.add(n.Context(), -1, func() error { close(begun); <-end; return nil }); err != nil {
			n.Error(err)
		}
	})
	<-begun
	return func() { close(end) }
}

func (n *numbers) expect(want ...string) {
	n.Helper()
	rows, err := n.db.Reader().QueryContext(n.Context(), `SELECT name FROM facts`)
	if err != nil {
		n.Fatal(err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			n.Fatal(err)
		}
		got = append(got, s)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		n.Errorf("numbers %v, want %v", got, want)
	}
}

// TestGroup: those who wait are committed together; who fails or gives up is left out.
func TestGroup(t *testing.T) {
	n := newNumbers(t)
	release := n.busy()
	good := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	is := func(want error) func(error) {
		return func(err error) {
			if !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	mine := errors.New("mine")
	n.goAdd(ctx, 1, nil, is(context.Canceled))
	n.goAdd(t.Context(), 2, nil, good)
	n.goAdd(t.Context(), 3, func() error { return mine }, is(mine))
	n.goAdd(t.Context(), 2, nil, is(sqlstore.ErrDuplicate)) // sees what came before
	n.goAdd(ctx, 4, nil, is(context.Canceled))
	n.goAdd(t.Context(), 5, func() error { n.expect("-1", "0"); return nil }, good) // 2 is not committed yet
	cancel()
	release()
	n.wg.Wait()
	n.expect("-1", "0", "2", "5")
}

// TestGroupPanic: the others live on.
func TestGroupPanic(t *testing.T) {
	n := newNumbers(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nobody sees the panic")
			}
		}()
		n.add(t.Context(), 1, func() error { panic("on purpose") })
	}()
	if err := n.add(t.Context(), 2, nil); err != nil {
		t.Error(err)
	}
	n.expect("0", "2")
}

// TestGroupClose: what has come is written, what comes is refused.
func TestGroupClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.db")
	s := open(t, path, store.Config{})
	var wg sync.WaitGroup
	added := make(chan string, 100)
	for i := range cap(added) {
		wg.Go(func() {
			name := strconv.Itoa(i)
			if _, err := s.AddUser(t.Context(), store.User{Name: name}); err == nil {
				added <- name
			}
		})
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	close(added)
	again := open(t, path, store.Config{})
	for name := range added {
		if _, err := again.UserByName(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}

// TestGiveWay: who writes without a pause stops for other processes now and then, and
// who leaves them pauses does not.
func TestGiveWay(t *testing.T) {
	const write = 10 * time.Millisecond
	for pause, want := range map[time.Duration]int{0: 3, write: 3, rest: 0} {
		synctest.Test(t, func(t *testing.T) {
			w, rests := &writer{}, 0
			for now, end := time.Now(), time.Now().Add(4*stretch); now.Before(end); now = time.Now() {
				w.giveWay()
				switch waited := time.Since(now); {
				case waited == rest:
					rests++
				case waited != 0:
					t.Fatalf("waited %v", waited)
				}
				time.Sleep(write)
				w.ended = time.Now()
				time.Sleep(pause)
			}
			if rests != want {
				t.Errorf("with pauses of %v: %d rests, want %d", pause, rests, want)
			}
		})
	}
}
