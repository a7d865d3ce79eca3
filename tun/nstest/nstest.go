// Package nstest is a Linux network namespace as a value, with the links,
// addresses, routes and features that tests, the benchmark and the demo need.
// Namespaces are anonymous: nothing appears under /run/netns, and nothing is
// left behind when the process ends, however it ends.
//
// It calls no other program and needs CAP_SYS_ADMIN and CAP_NET_ADMIN, or a
// user namespace that gives them (see ReexecAsRoot). On other systems every
// operation fails with errors.ErrUnsupported.
package nstest

import (
	"os/exec"
	"sync"
)

// NS is a network namespace that lives until Close. Its methods may be used by
// several goroutines at once; every one of them fails with os.ErrClosed after
// Close.
type NS struct {
	mu     sync.RWMutex // held for reading while fd is used
	fd     int          // of the nsfs file
	closed bool
}

// New makes a network namespace whose loopback is up and whose IPv6 addresses
// are usable at once (no duplicate address detection).
func New() (*NS, error) { return newNS() }

// Do runs fn inside the namespace and returns its error. fn runs on a thread of
// its own that is put back afterwards, or thrown away when that fails. Sockets,
// files under /proc/sys/net and devices that fn opens belong to the namespace
// for as long as they live, so they can be handed out of fn.
//
// Goroutines that fn starts do not run in the namespace: the namespace belongs
// to the thread. Libraries that open sockets behind the caller's back, such as
// net/http, therefore need their own Dial or Listen that calls Do.
//
// When fn ends its goroutine, as testing's FailNow does, so does Do.
func (ns *NS) Do(fn func() error) error { return ns.do(fn) }

// Start starts cmd as cmd.Start does, as a process inside the namespace. The
// caller calls cmd.Wait.
//
// With SysProcAttr.Pdeathsig the kernel sends that signal when the *thread*
// that started the process ends; Start then keeps such a thread until the
// process has ended, so that the signal means the death of this process.
func (ns *NS) Start(cmd *exec.Cmd) error { return ns.start(cmd) }

// Close gives the namespace up. It is idempotent. The kernel destroys it, with
// all links in it, once no process, socket or device uses it any more.
func (ns *NS) Close() error { return ns.close() }

// TB is the part of testing.TB that this package uses, so that programs which
// are no tests do not link package testing.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Need skips a test that needs namespaces where Missing names something.
func Need(tb TB) {
	tb.Helper()
	if missing := Missing(); missing != "" {
		tb.Skipf("needs network namespaces: %s", missing)
	}
}

// NeedMachine skips as Need does, and also as root of a user namespace: the
// kernel leaves SetGRODefer to the machine's own root.
func NeedMachine(tb TB) {
	tb.Helper()
	Need(tb)
	if missing := machineMissing(); missing != "" {
		tb.Skipf("needs GRO deferral: %s", missing)
	}
}

// Open returns a namespace that is closed when the test ends. It skips as Need
// does.
func Open(tb TB) *NS {
	tb.Helper()
	Need(tb)
	ns, err := New()
	if err != nil {
		tb.Fatalf("new namespace: %v", err)
	}
	tb.Cleanup(func() { _ = ns.Close() }) // fails only for a bad descriptor
	return ns
}
