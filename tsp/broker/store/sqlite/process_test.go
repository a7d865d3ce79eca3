package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/storetest"
)

// The test program runs itself as another process: to add a user, or to be killed.
const (
	childVar  = "STORE_TEST_CHILD" // what to do
	childPath = "STORE_TEST_PATH"
)

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(childVar) {
	case "":
		goleak.VerifyTestMain(m)
		return
	case "add":
		err = childAdd(os.Getenv(childPath), os.Args[1])
	case "load":
		err = childLoad(os.Getenv(childPath))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, what, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), childVar+"="+what, childPath+"="+path)
	return cmd
}

// childAdd is what `tspd user add` does.
func childAdd(path, name string) error {
	ctx := context.Background()
	s, err := Open(ctx, Config{Path: path})
	if err != nil {
		return err
	}
	_, err = s.AddUser(ctx, store.User{Name: name})
	return errors.Join(err, s.Close())
}

// TestUserAddWhileServing: users are added while a broker writes as fast as it can.
func TestUserAddWhileServing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tspd.db")
	s := open(t, path, store.Config{Pool: storetest.Pool})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := oneUp(t.Context(), s, ""); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, name := range []string{"ann", "bob", "cid"} {
		if out, err := child(t, "add", path, name).CombinedOutput(); err != nil {
			t.Errorf("add %s: %v: %s", name, err, out)
			continue
		}
		u, err := s.UserByName(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := oneUp(t.Context(), s, u.ID); err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
}

// oneUp makes a lease and brings it up.
func oneUp(ctx context.Context, s store.Store, userID string) (store.Lease, error) {
	l, err := s.Reserve(ctx, store.Want{UserID: userID, PrefixLen: 60, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		return l, err
	}
	return s.Activate(ctx, store.Activation{ID: l.ID, Epoch: l.Epoch, Node: "n", Expires: time.Now().Add(time.Hour)})
}

// childLoad makes leases until it is killed, and says which it was promised.
func childLoad(path string) error {
	ctx := context.Background()
	s, err := Open(ctx, Config{Path: path, Config: store.Config{Pool: storetest.Pool, Quarantine: time.Millisecond}})
	if err != nil {
		return err
	}
	fmt.Println("open")
	errs := make(chan error)
	for range 8 {
		go func() {
			for {
				if err := childStep(ctx, s); err != nil {
					errs <- err
				}
			}
		}()
	}
	return <-errs
}

// childStep is a user who comes, and perhaps goes.
func childStep(ctx context.Context, s store.Store) error {
	u, err := s.AddUser(ctx, store.User{Name: store.NewID(time.Now())})
	if err != nil {
		return err
	}
	l, err := oneUp(ctx, s, u.ID)
	if err != nil {
		return err
	}
	fmt.Println("up", l.ID, l.UserID, l.Client6, l.Prefix, l.Epoch)
	switch rand.IntN(8) {
	case 0:
		fmt.Println("may go", l.ID)
		if err := s.RemoveUser(ctx, u.ID); err != nil {
			return err
		}
		fmt.Println("gone", l.ID)
	case 1:
		_, err = s.ExpireBefore(ctx, time.Now())
	}
	return err
}

// promises are what killed processes have said.
type promises struct {
	up    map[string]string // what was said, by ID of the lease
	mayGo map[string]bool
	gone  map[string]bool
}

func (p *promises) add(line string) {
	switch f := strings.Fields(line); f[0] {
	case "up":
		p.up[f[1]] = line
	case "may":
		p.mayGo[f[2]] = true
	case "gone":
		p.gone[f[1]] = true
	}
}

// check compares them with what is there, after a clean start.
func (p *promises) check(t *testing.T, path string) {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: path, Config: store.Config{Pool: storetest.Pool}}) // checks that no two overlap
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	found := map[string]bool{}
	for l, err := range s.Leases(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		found[l.ID] = l.State == store.Up
		said, ok := p.up[l.ID]
		is := fmt.Sprintln("up", l.ID, l.UserID, l.Client6, l.Prefix, l.Epoch)
		if l.State == store.Up && ok && said != strings.TrimSpace(is) {
			t.Errorf("said %q, is %q", said, is)
		}
	}
	for id := range p.up {
		if !found[id] && !p.mayGo[id] {
			t.Errorf("lost: %s", p.up[id])
		}
		if found[id] && p.gone[id] {
			t.Errorf("back again: %s", p.up[id])
		}
	}
}

// TestKilled: SIGKILL, fifty times, at any moment from the making of the tables on. All
// that was promised is there afterwards.
func TestKilled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tspd.db")
	p := promises{map[string]string{}, map[string]bool{}, map[string]bool{}}
	for round := range 50 {
		cmd := child(t, "load", path)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for n := rand.IntN(60); ; n-- {
			if n == 0 {
				cmd.Process.Kill()
			}
			line, err := lines.ReadString('\n')
			if err != nil { // what is not a whole line was not said
				break
			}
			p.add(strings.TrimSpace(line))
		}
		if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" || stderr.Len() > 0 {
			t.Fatalf("round %d: %v: %s", round, err, &stderr)
		}
		if round%5 == 4 { // what was lost stays lost; the next child looks for overlaps each time
			p.check(t, path)
		}
	}
	if len(p.up) < 500 || len(p.gone) < 10 {
		t.Errorf("only %d leases were promised, and %d removals", len(p.up), len(p.gone))
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("the file: %q, %v", verdict, err)
	}
}
