package database

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
	"sixin4/tsp/broker/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestError(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		code int
	}{
		{"nothing", nil, exit.OK},
		{"has a status", exit.With(exit.Usage, store.ErrKey), exit.Usage},
		{"file", &fs.PathError{Op: "open", Path: "tspd.db", Err: fs.ErrPermission}, exit.Permission},
		{"key", fmt.Errorf("open store: %w", store.ErrKey), exit.Config},
		{"conflict", fmt.Errorf("release: %w", store.ErrConflict), exit.TryAgain},
		{"another", errors.New("disk is full"), exit.Failure},
	} {
		if got := exit.Code(Error(tt.err)); got != tt.code {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.code)
		}
	}
}

// files is a database in a directory of the test.
func files(t *testing.T) Config {
	dir := t.TempDir()
	return Config{Store: config.Store{State: filepath.Join(dir, "tspd.db"), KeyFile: filepath.Join(dir, "tspd.key")}}
}

// open opens a database, closes it again, and returns the error with DIR for the directory.
func (c Config) open(t *testing.T) (hasKey bool, message string, code int) {
	t.Helper()
	d, err := Open(t.Context(), c)
	if err != nil {
		return false, strings.ReplaceAll(err.Error(), filepath.Dir(c.State), "DIR"), exit.Code(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	return d.HasKey, "", exit.OK
}

// TestKey: a lost key file is not replaced by one that does not fit, and each error says
// what to do.
func TestKey(t *testing.T) {
	c := files(t)
	if _, message, _ := c.open(t); message != "no database DIR/tspd.db (tspd serve and tspd user add make one; --state or --config says where it is)" {
		t.Errorf("nothing is there: %q", message)
	}
	c.Create = true
	if hasKey, message, _ := c.open(t); hasKey || message != "" {
		t.Errorf("no key is asked for: %v, %q", hasKey, message)
	}
	c.MakeKey = true
	if hasKey, message, _ := c.open(t); !hasKey || message != "" {
		t.Errorf("the first key: %v, %q", hasKey, message)
	}
	if err := os.Remove(c.KeyFile); err != nil {
		t.Fatal(err)
	}
	const advice = "put the right one there, or have tspd key replace make a new one, which says whose passwords must be set anew"
	if _, message, code := c.open(t); code != exit.Config || !strings.HasSuffix(message, "the key file DIR/tspd.key is lost: "+advice) {
		t.Errorf("lost: %d, %s", code, message)
	}
	if _, err := os.Stat(c.KeyFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that does not fit was left: %v", err)
	}
	if _, err := store.MakeKey(c.KeyFile); err != nil {
		t.Fatal(err)
	}
	if _, message, code := c.open(t); code != exit.Config || !strings.HasSuffix(message, "the key file DIR/tspd.key is another one: "+advice) {
		t.Errorf("another: %d, %s", code, message)
	}
	if _, err := os.Stat(c.KeyFile); err != nil {
		t.Errorf("another's key is gone: %v", err)
	}
	c.Keyless = true
	if hasKey, message, _ := c.open(t); hasKey || message != "" {
		t.Errorf("without the key: %v, %q", hasKey, message)
	}
}

// TestLock: there is one broker on a file at a time.
func TestLock(t *testing.T) {
	c := files(t)
	unlock, err := Lock(c.Store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(c.Store); exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), "a broker runs on it already") {
		t.Errorf("the second: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	again, err := Lock(c.Store)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	if err := again(); err != nil {
		t.Error(err)
	}
	if _, err := Lock(config.Store{State: filepath.Join(c.State, "x")}); err == nil {
		t.Error("no error where no file can be")
	}
	for range 2 {
		unlock, err := Lock(config.Store{State: "postgres://tspd@db.example.net/tspd"})
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
	}
}

// TestLockFirst: who comes second has not touched what the first one uses, neither its
// tables nor its key file, and the first one's Close lets the second one in.
func TestLockFirst(t *testing.T) {
	c := files(t)
	c.Create, c.MakeKey, c.Alone = true, true, true
	first, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Store.Close(); err != nil { // so that the file is as it is
		t.Fatal(err)
	}
	for _, name := range []string{c.State, c.KeyFile} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if _, message, code := c.open(t); code != exit.TryAgain || !strings.Contains(message, "a broker runs on it already") {
		t.Errorf("the second: %d, %s", code, message)
	}
	for _, name := range []string{c.State, c.KeyFile} {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the second has made %s: %v", filepath.Base(name), err)
		}
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, message, _ := c.open(t); message != "" {
		t.Errorf("after the first: %s", message)
	}
	if err := os.WriteFile(c.KeyFile, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, message, code := c.open(t); code != exit.Config {
		t.Errorf("with another key: %d, %s", code, message)
	}
	unlock, err := Lock(c.Store) // what could not be opened is not locked
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

// TestNoServer: what pgx says does not stop us from saying which database.
func TestNoServer(t *testing.T) {
	c := files(t)
	c.State = "postgres:///tspd?host=" + t.TempDir()
	if _, message, code := c.open(t); code != exit.Failure || !strings.Contains(message, "database tspd at ") {
		t.Errorf("%d, %s", code, message)
	}
}

// TestForeignFile: what others can write, or is no file, is refused before anything is made.
func TestForeignFile(t *testing.T) {
	c := files(t)
	c.Create = true
	if _, message, _ := c.open(t); message != "" {
		t.Fatal(message)
	}
	if err := os.Chmod(c.State, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, message, code := c.open(t); code != exit.Config || !strings.HasPrefix(message, "database DIR/tspd.db: mode 0666 lets everybody write it") {
		t.Errorf("for everybody: %d, %s", code, message)
	}
	if err := os.Chmod(c.State, 0o660); err != nil {
		t.Fatal(err)
	}
	if _, message, _ := c.open(t); message != "" {
		t.Errorf("for a group: %s", message)
	}
	c.State = filepath.Join(filepath.Dir(c.State), "directory")
	if err := os.Mkdir(c.State, 0o700); err != nil {
		t.Fatal(err)
	}
	c.Alone = true
	if _, message, code := c.open(t); code != exit.Config || message != "database DIR/directory: not a file, so none of ours" {
		t.Errorf("directory: %d, %s", code, message)
	}
	if left, _ := filepath.Glob(c.State + ".*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
