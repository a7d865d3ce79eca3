package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

const (
	version = 1
	maxSize = 1 << 20 // bytes of a file
	// maxRecords bounds a file: a tunnel has a handful.
	maxRecords = 64
	maxText    = 16 << 10 // bytes of a path or command
)

// content is the file.
type content struct {
	Version int      `json:"version"`
	Owner   owner    `json:"owner"`
	Records []Record `json:"records"`
}

// owner is the process that wrote a file, and what it ran in.
type owner struct {
	PID   int    `json:"pid"`   // 0 when it has given the file up
	Start uint64 `json:"start"` // in clock ticks since boot: numbers of processes are used again
	Boot  string `json:"boot"`  // the kernel's boot id
	Netns uint64 `json:"netns"` // the kernel's cookie of the network namespace; 0 where it has none
}

// lives reports whether the owner is a process that runs, and not the one that asks.
func (o owner) lives(asks owner) (bool, error) {
	if o.PID == 0 || o.Boot != asks.Boot || o.is(asks) {
		return false, nil
	}
	start, err := started(o.PID)
	return err == nil && start == o.Start, err
}

func (o owner) is(other owner) bool {
	return o.PID == other.PID && o.Start == other.Start && o.Boot == other.Boot
}

// elsewhere reports whether what the owner did is not in reach: another boot, or a
// network namespace that the kernel knows for another.
func (o owner) elsewhere(now owner) bool {
	return o.Boot != now.Boot || o.Netns != now.Netns && o.Netns != 0 && now.Netns != 0
}

func (r Record) check() error {
	kinds := 0
	for _, there := range []bool{r.Script != nil, r.Route != nil, r.Sysctl != nil} {
		if there {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return errors.New("record: neither a script nor a route nor a sysctl, or several")
	case r.Script != nil:
		return r.Script.check()
	case r.Route != nil:
		return r.Route.check()
	}
	return r.Sysctl.check()
}

func (s Script) check() error {
	switch {
	case (s.Path == "") == (s.Command == ""):
		return errors.New("script record: neither a path nor a command, or both")
	case s.Path != "" && !filepath.IsAbs(s.Path):
		return fmt.Errorf("script record: path %.64q is not absolute", s.Path)
	case s.Dir != "" && !filepath.IsAbs(s.Dir):
		return fmt.Errorf("script record: directory %.64q is not absolute", s.Dir)
	case s.Timeout < 0:
		return fmt.Errorf("script record: timeout %v", s.Timeout)
	}
	for _, text := range []string{s.Path, s.Command, s.Dir} {
		if len(text) > maxText || strings.ContainsRune(text, 0) || !utf8.ValidString(text) { // JSON would change it
			return fmt.Errorf("script record: %.64q is too long, no UTF-8, or has a zero byte", text)
		}
	}
	for _, v := range s.Variables {
		if err := v.Check(); err != nil {
			return err
		}
	}
	return nil
}

func (r Route) check() error {
	switch p := r.Prefix; {
	case r.Type != Unreachable:
		return fmt.Errorf("route record: type %.64q", r.Type)
	case !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() || p != p.Masked() || p.Bits() == 0:
		return fmt.Errorf("route record: prefix %v", p)
	}
	return nil
}

func (s Sysctl) check() error {
	for _, path := range append([]string{s.Path}, s.Keep...) {
		if !strings.HasPrefix(filepath.Clean(path), "net/") || !filepath.IsLocal(path) || len(path) > maxText || strings.ContainsRune(path, 0) {
			return fmt.Errorf("sysctl record: path %.64q", path)
		}
	}
	return nil
}

// load reads a file that can be trusted. One that is missing is empty.
func load(root *os.Root, name string) (content, error) {
	text, err := read(root, name)
	for n := 0; n < 100 && errors.Is(err, errReplaced); n++ { // by its owner, whose lock we do not hold
		text, err = read(root, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return content{}, nil
	}
	if err != nil {
		return content{}, err
	}
	c, err := parse(text)
	if err != nil {
		return content{}, fmt.Errorf("not understood: %w (look into it, undo by hand what it tells of, and delete it)", err)
	}
	return c, nil
}

func read(root *os.Root, name string) ([]byte, error) {
	info, err := root.Lstat(name)
	if err == nil {
		err = trust(info)
	}
	if err != nil {
		return nil, err
	}
	file, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := sameFile(file, info); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err == nil && len(text) > maxSize {
		err = fmt.Errorf("larger than %d bytes", maxSize)
	}
	return text, err
}

// sameFile makes sure that what was opened is what was looked at.
func sameFile(file *os.File, info fs.FileInfo) error {
	opened, err := file.Stat()
	if err == nil && !os.SameFile(opened, info) {
		err = errReplaced
	}
	return err
}

var errReplaced = errors.New("replaced by somebody while it was opened")

func parse(text []byte) (c content, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("something behind its end")
	}
	switch {
	case c.Version != version:
		return c, fmt.Errorf("version %d, not %d", c.Version, version)
	case c.Owner.PID < 0 || c.Owner.Boot == "":
		return c, errors.New("no owner")
	case len(c.Records) == 0 || len(c.Records) > maxRecords:
		return c, fmt.Errorf("%d records", len(c.Records))
	}
	for _, r := range c.Records {
		if err := r.check(); err != nil {
			return c, err
		}
	}
	return c, nil
}

// save replaces the file, or deletes it when nothing is recorded. The new one is
// complete on disk before it takes the place of the old one.
func (f *File) save() error {
	name := filepath.Base(f.path)
	temporary := name + ".new" // only the holder of the lock touches it
	if err := remove(f.root, temporary); err != nil {
		return err
	}
	if len(f.entries) == 0 {
		return remove(f.root, name)
	}
	c := content{Version: version, Owner: f.self}
	for _, e := range f.entries {
		c.Records = append(c.Records, e.Record)
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if len(text) > maxSize {
		return fmt.Errorf("larger than %d bytes", maxSize)
	}
	err = write(f.root, temporary, append(text, '\n'))
	if err == nil {
		err = f.root.Rename(temporary, name)
	}
	if err != nil {
		_ = remove(f.root, temporary) // the first error says more
	}
	return err
}

// remove is done when there is no such file.
func remove(root *os.Root, name string) error {
	err := root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func write(root *os.Root, name string, text []byte) error {
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
