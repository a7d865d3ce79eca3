package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sixin4/cmd/internal/state"
)

// sysctls is where the kernel has its numbers, those of the network namespace of the
// process among them.
const sysctls = "/proc/sys/"

// forwarding is the switch without which this host is no router. Where it is turned,
// the kernel turns those of all interfaces with it.
const forwarding = "net/ipv6/conf/all/forwarding"

// router turns forwarding on, and back.
type router struct {
	root string // before each path; sysctls except in tests
	file *state.File
}

// openState takes over what an earlier run with this name has left on record.
func (b *brokerage) openState(ctx context.Context) error {
	path, err := stateFile(b.socket, b.name)
	if err != nil {
		return err
	}
	file, err := state.Open(path)
	if err != nil {
		return stateError(err)
	}
	b.undo.Push(file.Close)
	b.router = router{sysctls, file}
	others := slices.DeleteFunc(file.Inherited(), isSysctl) // of a client that had this name
	return b.leftovers(ctx, file, others)
}

// forward looks whether this host forwards IPv6, and turns that on if it may. What an
// earlier run was killed before turning back is turned back now, or at the end of this
// run if it is to be on meanwhile.
func (b *brokerage) forward(context.Context) error {
	log := b.env.Logger
	left := slices.DeleteFunc(b.router.file.Inherited(), func(e state.Entry) bool { return !isSysctl(e) })
	if !b.cfg.ConfigureHost && len(left) > 0 {
		log.Warn("an earlier run was killed; undoing what it left", "name", b.name)
		if err := b.router.back(left); err != nil {
			log.Warn("not undone", "error", err)
		}
	}
	on, err := b.router.read(forwarding)
	if err != nil {
		return hostError(err)
	}
	switch {
	case b.cfg.ConfigureHost && on == 0:
		left, err = b.router.turnOn(left)
		if err != nil {
			return hostError(fmt.Errorf("--configure-host: %w", err))
		}
		log.Info("this host forwards IPv6 from now on, until the end")
	case on == 0:
		log.Warn("this host does not forward IPv6, so that clients reach nothing but it " +
			"(sysctl -w net.ipv6.conf.all.forwarding=1, or --configure-host)")
	}
	if b.cfg.ConfigureHost {
		b.undo.Push(func() error { return b.router.back(left) })
	}
	return nil
}

func isSysctl(e state.Entry) bool { return e.Record.Sysctl != nil }

// turnOn sets what is to be set, on record before it is. Records of an earlier run are
// about a value that somebody has changed since, so they are forgotten.
func (r router) turnOn(earlier []state.Entry) ([]state.Entry, error) {
	for _, e := range earlier {
		if err := r.file.Remove(e.Token); err != nil {
			return nil, err
		}
	}
	keep, err := r.others()
	if err != nil {
		return nil, err
	}
	record := state.Record{Sysctl: &state.Sysctl{Path: forwarding, Was: 0, Set: 1, Keep: keep}}
	token, err := r.file.Add(record)
	if err != nil {
		return nil, err
	}
	if err := r.write(forwarding, 1); err != nil {
		return nil, errors.Join(err, r.file.Remove(token))
	}
	return []state.Entry{{Token: token, Record: record}}, nil
}

// others are the interfaces that forward already, for which the kernel forgets it
// when forwarding is turned off for all.
func (r router) others() (paths []string, err error) {
	found, err := filepath.Glob(r.root + "net/ipv6/conf/*/forwarding")
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		p := strings.TrimPrefix(f, r.root)
		if on, err := r.read(p); err == nil && on == 1 { // else the interface went meanwhile
			paths = append(paths, p)
		}
	}
	return paths, nil
}

// back undoes records of sysctls, the last first. One that fails stays on record.
func (r router) back(records []state.Entry) (err error) {
	for _, e := range slices.Backward(records) {
		failed := r.restore(*e.Record.Sysctl)
		if failed == nil {
			failed = r.file.Remove(e.Token)
		}
		err = errors.Join(err, failed)
	}
	return err
}

// restore sets a number back, unless somebody else has changed it.
func (r router) restore(s state.Sysctl) error {
	now, err := r.read(s.Path)
	if err != nil || now != s.Set {
		return err // not ours any more
	}
	err = r.write(s.Path, s.Was)
	for _, p := range s.Keep {
		if failed := r.write(p, s.Set); !errors.Is(failed, fs.ErrNotExist) { // else the interface has gone
			err = errors.Join(err, failed)
		}
	}
	return err
}

func (r router) read(path string) (uint32, error) {
	text, err := os.ReadFile(r.root + path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name(path), err)
	}
	return uint32(n), nil
}

func (r router) write(path string, n uint32) error {
	return os.WriteFile(r.root+path, fmt.Appendf(nil, "%d\n", n), 0)
}

// name is a sysctl as people write it.
func name(p string) string { return strings.ReplaceAll(path.Clean(p), "/", ".") }
