// Package state remembers what a tunnel did to the host that outlives the process
// when that is killed by SIGKILL, so that the next start can undo it: what a script
// or hook set up, routes that belong to no interface, and sysctls. What belongs to the tunnel's
// interface goes with it by itself and is never here.
//
// The file NAME.state stands beside the tunnel's control socket, exists only while
// something is recorded, and is replaced as a whole, so that whoever reads it after a
// kill at any moment finds all of it. Beside it stands NAME.state.lock, which the owner
// holds (flock) for as long as it lives: of two processes that start at once one gets
// the file and undoes, the other is told that it is in use.
//
// An owner adds a record before it makes the change and removes it after it has taken
// the change back. So a record may be about a change that was never made, or that was
// taken back already; undoing that must do no harm.
package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sixin4/cmd/internal/hook"
)

// ErrInUse is the cause when another process that lives owns the file.
var ErrInUse = errors.New("another process uses it")

// Unreachable is the type of the routes of ifcfg.AddUnreachable.
const Unreachable = "unreachable"

// Record is one thing to undo: exactly one of its fields is set.
type Record struct {
	Script *Script `json:"script,omitempty"`
	Route  *Route  `json:"route,omitempty"`
	Sysctl *Sysctl `json:"sysctl,omitempty"`
}

// Script is a script or command that undoes what another has done.
type Script struct {
	Path      string          `json:"path,omitempty"`    // absolute; or
	Command   string          `json:"command,omitempty"` // of the user's
	Dir       string          `json:"dir,omitempty"`     // working directory, absolute; "" means /
	Variables []hook.Variable `json:"variables,omitempty"`
	Timeout   time.Duration   `json:"timeout_ns,omitempty"` // 0 means the default
}

// Hook is the script as it is run.
func (s Script) Hook() hook.Script {
	return hook.Script{Path: s.Path, Command: s.Command, Dir: s.Dir, Timeout: s.Timeout}
}

// Route is a route to delete.
type Route struct {
	Prefix netip.Prefix `json:"prefix"` // IPv6, without host bits
	Type   string       `json:"type"`   // Unreachable
}

// Sysctl is a number in the kernel to set back, see package sysctl of the kernel's
// documentation.
type Sysctl struct {
	Path string `json:"path"` // below /proc/sys: net/ and more
	Was  uint32 `json:"was"`
	Set  uint32 `json:"set"` // another by now is somebody else's, and stays
	// Keep are the paths of those that the kernel changes along with Path, and that were
	// Set before already: they get that again.
	Keep []string `json:"keep,omitempty"`
}

// Token stands for a record of a File.
type Token int

// Entry is a record with the token that removes it.
type Entry struct {
	Token  Token
	Record Record
}

// File is the state file of one tunnel, owned by this process. Its methods may be used
// by several goroutines.
type File struct {
	path string
	root *os.Root // the directory
	lock io.Closer

	mu        sync.Mutex
	self      owner
	entries   []Entry
	inherited []Entry
	next      Token
	madeDir   bool // the directory is ours to remove, when it is empty
	closed    bool
}

// Open takes the file at path over, or gets ready to make one, and makes its directory
// when that is missing. The error wraps [ErrInUse] when an owner lives. A file is not
// trusted, and nothing in it must be run, when another user owns it or its directory or
// could have changed them: the error says so. One that cannot be understood is an error
// that says what to do. Close must be called in the end.
func Open(path string) (*File, error) {
	f := &File{path: path, next: 1}
	if err := f.open(); err != nil {
		return nil, errors.Join(f.fail(err), f.release())
	}
	return f, nil
}

func (f *File) fail(err error) error { return fmt.Errorf("state file %s: %w", f.path, err) }

func (f *File) open() error {
	dir := filepath.Dir(f.path)
	err := os.Mkdir(dir, 0o755)
	f.madeDir = err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if f.root, err = openDir(dir); err != nil {
		return err
	}
	if f.lock, err = acquire(f.root, filepath.Base(f.path)+".lock"); err != nil {
		return err
	}
	if f.self, err = self(); err != nil {
		return err
	}
	return f.inherit()
}

// inherit makes what a dead owner left ours.
func (f *File) inherit() error {
	old, err := load(f.root, filepath.Base(f.path))
	if err != nil {
		return err
	}
	lives, err := old.Owner.lives(f.self)
	switch {
	case err != nil:
		return err
	case lives: // and yet its lock is free: somebody has deleted that file
		return fmt.Errorf("%w (process %d)", ErrInUse, old.Owner.PID)
	case old.Owner.elsewhere(f.self): // gone with what it ran in
		return f.save()
	}
	for _, r := range old.Records {
		f.append(r)
	}
	f.inherited = slices.Clone(f.entries)
	return f.save()
}

// Inherited are the records of a dead owner, in the order in which they were added:
// what is to be undone, last first, and then removed one by one. There are none of
// another boot of this machine or of another network namespace: those are forgotten,
// as what they are about is gone, or cannot be reached from here.
func (f *File) Inherited() []Entry { return slices.Clone(f.inherited) }

// Add writes a record down; the change that it undoes may be made once Add has
// returned. After an error nothing is recorded.
func (f *File) Add(r Record) (Token, error) {
	if err := r.check(); err != nil {
		return 0, f.fail(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, f.fail(os.ErrClosed)
	}
	if len(f.entries) == maxRecords {
		return 0, f.fail(fmt.Errorf("%d records are the limit", maxRecords))
	}
	token := f.append(r)
	if err := f.save(); err != nil {
		f.drop(token)
		return 0, f.fail(err)
	}
	return token, nil
}

// Remove forgets a record whose change has been undone. One that is not there is no
// error. After an error the record is still there, and removing may be tried again.
func (f *File) Remove(t Token) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.fail(os.ErrClosed)
	}
	before := slices.Clone(f.entries)
	if !f.drop(t) {
		return nil
	}
	if err := f.save(); err != nil {
		f.entries = before
		return f.fail(err)
	}
	return nil
}

// Close gives the file up. Records that are still in it are for the next owner. The
// directory goes when Open made it and nothing is in it. Close is idempotent.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	f.self.PID, f.self.Start = 0, 0
	err := f.save()
	if err != nil {
		err = f.fail(err)
	}
	return errors.Join(err, f.release())
}

// release gives up the lock and the directory.
func (f *File) release() (err error) {
	if f.lock != nil {
		err = f.lock.Close()
	}
	if f.root != nil {
		err = errors.Join(err, f.root.Close())
	}
	if f.madeDir {
		os.Remove(filepath.Dir(f.path)) // fails when something else is in it, as it should
	}
	return err
}

func (f *File) append(r Record) Token {
	token := f.next
	f.next++
	f.entries = append(f.entries, Entry{token, r})
	return token
}

// drop reports whether there was such a record.
func (f *File) drop(t Token) bool {
	n := len(f.entries)
	f.entries = slices.DeleteFunc(f.entries, func(e Entry) bool { return e.Token == t })
	return len(f.entries) < n
}

// Leftover are the records that Open would inherit at present. It changes nothing and
// locks nothing, so it is for telling what a start would undo; who is to undo it calls
// Open. A file that is missing has none.
func Leftover(path string) ([]Record, error) {
	records, err := leftover(path)
	if err != nil {
		return nil, fmt.Errorf("state file %s: %w", path, err)
	}
	return records, nil
}

func leftover(path string) ([]Record, error) {
	root, err := openDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	old, err := load(root, filepath.Base(path))
	if err != nil {
		return nil, err
	}
	now, err := self()
	if err != nil {
		return nil, err
	}
	lives, err := old.Owner.lives(now)
	if err != nil || lives || old.Owner.elsewhere(now) || old.Owner.is(now) {
		return nil, err
	}
	return old.Records, nil
}
