package state

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/cmd/internal/hook"
	"sixin4/tun/nstest"
)

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func script(command string) Record { return Record{Script: &Script{Command: command}} }

// full has every field that there is.
func full() []Record {
	return []Record{
		{Script: &Script{
			Path: "/usr/local/tsp/template/linux.sh", Dir: "/usr/local/tsp", Timeout: time.Minute,
			Variables: []hook.Variable{{Name: "TSP_OPERATION", Value: "TSP_TUNNEL_TEARDOWN"}, {Name: "TSP_HOME_INTERFACE"}},
		}},
		{Script: &Script{Command: "echo '<down>' & # größe\n"}},
		{Route: &Route{Prefix: netip.MustParsePrefix("2001:db8:f00::/48"), Type: Unreachable}},
	}
}

// records takes the tokens off.
func records(entries []Entry) (all []Record) {
	for _, e := range entries {
		all = append(all, e.Record)
	}
	return all
}

// open opens a file that is closed when the test ends.
func open(t *testing.T, path string) *File {
	t.Helper()
	f := must[*File](t)(Open(path))
	t.Cleanup(func() { f.Close() })
	return f
}

// entriesOf are the names in a directory, which may be missing.
func entriesOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestHook(t *testing.T) {
	s := *full()[0].Script
	want := hook.Script{Path: s.Path, Dir: s.Dir, Timeout: s.Timeout}
	if got := s.Hook(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestHandOver: what is left in the file when its owner closes it is for the next.
func TestHandOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sixin4")
	path := filepath.Join(dir, "six0.state")
	f := open(t, path)
	var tokens []Token
	for _, r := range full() {
		tokens = append(tokens, must[Token](t)(f.Add(r)))
	}
	if info := must[os.FileInfo](t)(os.Stat(path)); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	if len(f.Inherited()) != 0 {
		t.Errorf("inherited %v", f.Inherited())
	}
	must[any](t)(nil, f.Remove(tokens[1]))
	must[any](t)(nil, f.Remove(tokens[1]))
	must[any](t)(nil, f.Close())
	if got := entriesOf(t, dir); !reflect.DeepEqual(got, []string{"six0.state"}) {
		t.Errorf("files after the first: %q", got)
	}

	want := []Record{full()[0], full()[2]}
	if got := must[[]Record](t)(Leftover(path)); !reflect.DeepEqual(got, want) {
		t.Errorf("left over: %+v, want %+v", got, want)
	}
	g := open(t, path)
	if got := records(g.Inherited()); !reflect.DeepEqual(got, want) {
		t.Errorf("inherited: %+v, want %+v", got, want)
	}
	if got := must[[]Record](t)(Leftover(path)); got != nil {
		t.Errorf("left over of a living owner: %+v", got)
	}
	for _, e := range g.Inherited() {
		must[any](t)(nil, g.Remove(e.Token))
	}
	if got := entriesOf(t, dir); !reflect.DeepEqual(got, []string{"six0.state.lock"}) {
		t.Errorf("files without records: %q", got)
	}
	must[any](t)(nil, g.Close())
	must[any](t)(nil, g.Close())
	if got := entriesOf(t, dir); len(got) != 0 {
		t.Errorf("files in the end: %q", got)
	}
}

// TestDirectory is made and removed, unless something else is in it by then.
func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sixin4")
	path := filepath.Join(dir, "six0.state")
	f := open(t, path)
	must[any](t)(nil, f.Close())
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	f = open(t, path)
	socket := filepath.Join(dir, "six0.sock")
	must[any](t)(nil, os.WriteFile(socket, nil, 0o600))
	must[any](t)(nil, f.Close())
	if _, err := os.Stat(socket); err != nil {
		t.Error(err)
	}
	if got := must[[]Record](t)(Leftover(filepath.Join(dir, "none", "six0.state"))); got != nil {
		t.Errorf("left over where there is nothing: %v", got)
	}
}

func TestClosed(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "six0.state"))
	must[any](t)(nil, f.Close())
	if _, err := f.Add(script("true")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Add: %v", err)
	}
	if err := f.Remove(1); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Remove: %v", err)
	}
}

func TestInUseHere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "six0.state")
	f := open(t, path)
	if _, err := Open(path); !errors.Is(err, ErrInUse) || err.Error() != "state file "+path+": another process uses it" {
		t.Errorf("second owner: %v", err)
	}
	open(t, filepath.Join(filepath.Dir(path), "six1.state")) // another name is another file
	must[any](t)(nil, f.Close())
	open(t, path)
}

// TestNotWritten: when the file cannot be replaced, the old one stays as it is.
func TestNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "six0.state")
	f := open(t, path)
	token := must[Token](t)(f.Add(script("first")))
	before := must[[]byte](t)(os.ReadFile(path))
	must[any](t)(nil, os.MkdirAll(path+".new/in the way", 0o755))
	if _, err := f.Add(script("second")); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Add: %v, want an error that names the file", err)
	}
	if err := f.Remove(token); err == nil {
		t.Error("Remove succeeded")
	}
	if now := must[[]byte](t)(os.ReadFile(path)); string(now) != string(before) {
		t.Errorf("now:\n%s\nbefore:\n%s", now, before)
	}
	must[any](t)(nil, os.RemoveAll(path+".new"))
	must[any](t)(nil, f.Remove(token))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file without records: %v", err)
	}
}

func TestTooMuch(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "six0.state"))
	for range maxRecords {
		must[Token](t)(f.Add(script("true")))
	}
	if _, err := f.Add(script("true")); err == nil || !strings.HasSuffix(err.Error(), ": 64 records are the limit") {
		t.Errorf("%v, want the limit", err)
	}
}

// leave writes the file of a process that is dead, with its owner changed by change.
func leave(t *testing.T, path string, change func(*owner)) {
	t.Helper()
	f := open(t, path)
	f.self.PID, f.self.Start = os.Getppid(), 1 // that number is in use, but not since then
	change(&f.self)
	must[Token](t)(f.Add(script("undo")))
	must[any](t)(nil, f.lock.Close()) // as the kernel does
	f.lock, f.closed = nil, true
	must[any](t)(nil, f.root.Close())
}

// TestWhose says whose file is inherited.
func TestWhose(t *testing.T) {
	parent := must[uint64](t)(started(os.Getppid()))
	me := must[owner](t)(self())
	for _, tt := range []struct {
		name      string
		change    func(*owner)
		inherited bool
		err       error
		leftover  bool
	}{
		{"number used again", func(*owner) {}, true, nil, true},
		{"no such process", func(o *owner) { o.PID = 1<<31 - 1 }, true, nil, true},
		{"given up", func(o *owner) { o.PID, o.Start = 0, 0 }, true, nil, true},
		{"this process, before", func(o *owner) { o.PID, o.Start = me.PID, me.Start }, true, nil, false},
		{"a process that lives, its lock deleted", func(o *owner) { o.Start = parent }, false, ErrInUse, false},
		{"another boot", func(o *owner) { o.Boot = "0" }, false, nil, false},
		{"another boot, where the process seems to live", func(o *owner) { o.Boot, o.Start = "0", parent }, false, nil, false},
		{"another network namespace", func(o *owner) { o.Netns = me.Netns + 1 }, me.Netns == 0, nil, me.Netns == 0},
		{"network namespace not known", func(o *owner) { o.Netns = 0 }, true, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "six0.state")
			leave(t, path, tt.change)
			if got := must[[]Record](t)(Leftover(path)); (len(got) == 1) != tt.leftover {
				t.Errorf("left over: %v", got)
			}
			f, err := Open(path)
			if !errors.Is(err, tt.err) {
				t.Fatalf("%v, want %v", err, tt.err)
			}
			if err != nil {
				if got := entriesOf(t, filepath.Dir(path)); !reflect.DeepEqual(got, []string{"six0.state"}) {
					t.Errorf("files: %q", got)
				}
				return
			}
			defer f.Close()
			if got := f.Inherited(); (len(got) == 1) != tt.inherited {
				t.Errorf("inherited: %v", got)
			}
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) == tt.inherited {
				t.Errorf("the file: %v", err)
			}
		})
	}
}

// TestNotTrusted: whatever others could have written is not read.
func TestNotTrusted(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(path string) error
		want  string
	}{
		{"file writable by others", func(p string) error { return os.Chmod(p, 0o622) }, "not trusted: mode 0622 lets others write it (look into it, and delete it)"},
		{"directory writable by others", func(p string) error { return os.Chmod(filepath.Dir(p), 0o777) }, "not trusted: mode 0777 lets others replace files in it (chmod go-w)"},
		{"directory writable by a group", func(p string) error { return os.Chmod(filepath.Dir(p), 0o770) }, "not trusted: mode 0770 lets others replace files in it (chmod go-w)"},
		{"link", func(p string) error {
			return errors.Join(os.Rename(p, p+".real"), os.Symlink(filepath.Base(p)+".real", p))
		}, "not trusted: it is not a regular file"},
		{"named pipe", func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600)) }, "not trusted: it is not a regular file"},
		{"directory", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "not trusted: it is not a regular file"},
		{"lock writable by others", func(p string) error {
			return errors.Join(os.WriteFile(p+".lock", nil, 0o600), os.Chmod(p+".lock", 0o666))
		}, "not trusted: mode 0666 lets others write it (look into it, and delete it)"},
		{"lock is a link", func(p string) error { return os.Symlink(filepath.Base(p), p+".lock") }, "not trusted: it is not a regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "six0.state")
			leave(t, path, func(*owner) {})
			must[any](t)(nil, tt.spoil(path))
			f, err := Open(path)
			if err == nil || !strings.HasPrefix(err.Error(), "state file "+path+": ") || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("Open: %v\nwant %s", err, tt.want)
			}
			if f != nil {
				f.Close()
			}
			if strings.HasPrefix(tt.name, "lock") {
				return
			}
			if records, err := Leftover(path); err == nil || !strings.HasSuffix(err.Error(), tt.want) || records != nil {
				t.Errorf("Leftover: %v, %v\nwant %s", records, err, tt.want)
			}
		})
	}
}

func TestStickyDirectory(t *testing.T) {
	dir := t.TempDir()
	must[any](t)(nil, os.Chmod(dir, 0o777|os.ModeSticky))
	path := filepath.Join(dir, "six0.state")
	leave(t, path, func(*owner) {})
	if f := open(t, path); len(f.Inherited()) != 1 {
		t.Errorf("inherited %v", f.Inherited())
	}
}

// TestTrust is about users that a test cannot be.
func TestTrust(t *testing.T) {
	for _, tt := range []struct {
		name      string
		uid, me   int
		mode      fs.FileMode
		file, dir bool // trusted
	}{
		{"root's, to root", 0, 0, 0o600, true, true},
		{"root's, to another", 0, 1000, 0o600, false, true},
		{"our own", 1000, 1000, 0o600, true, true},
		{"another's, to root", 1000, 0, 0o600, false, false},
		{"nobody's", -1, 1000, 0o600, false, false},
		{"readable", 0, 0, 0o644, true, true},
		{"writable by the group", 0, 0, 0o660, false, false},
		{"writable by others", 0, 0, 0o602, false, false},
	} {
		if err := checkFile(tt.uid, tt.me, tt.mode); (err == nil) != tt.file {
			t.Errorf("%s: file: %v", tt.name, err)
		}
		if err := checkDir(tt.uid, tt.me, tt.mode|fs.ModeDir); (err == nil) != tt.dir {
			t.Errorf("%s: directory: %v", tt.name, err)
		}
	}
}

func TestStartTime(t *testing.T) {
	const fields = "(a) b) c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20"
	for _, tt := range []struct {
		name, stat string
		want       uint64
		bad        bool
	}{
		{"brackets in the name", "7 " + fields, 4242, false},
		{"zombie", "7 " + strings.Replace(fields, "S", "Z", 1), 0, false},
		{"too short", "7 (a) S 1 2", 0, true},
		{"empty", "", 0, true},
		{"no number", "7 " + strings.Replace(fields, "4242", "x", 1), 0, true},
	} {
		if got, err := startTime([]byte(tt.stat)); got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%s: %d, %v", tt.name, got, err)
		}
	}
	if got := must[uint64](t)(started(os.Getpid())); got == 0 {
		t.Error("this process has not started")
	}
	if got := must[uint64](t)(started(1<<31 - 1)); got != 0 {
		t.Errorf("a process that cannot be started at %d", got)
	}
}

// TestNetworkNamespace: what was done in one is not undone in another.
func TestNetworkNamespace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "six0.state")
	here := netns()
	if here == 0 {
		t.Skip("kernel feature: SO_NETNS_COOKIE")
	}
	ns := nstest.Open(t)
	err := ns.Do(func() error {
		if there := netns(); there == here || there == 0 {
			t.Errorf("number %d in another namespace, %d here", there, here)
		}
		leave(t, path, func(*owner) {})
		if got, err := Leftover(path); err != nil || len(got) != 1 {
			t.Errorf("left over in the same namespace: %v, %v", got, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if f := open(t, path); len(f.Inherited()) != 0 {
		t.Errorf("inherited from another namespace: %v", f.Inherited())
	}
}
