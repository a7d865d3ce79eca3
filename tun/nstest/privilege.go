package nstest

import (
	"fmt"
	"os"
)

// Missing returns "", or in words what this process lacks for network
// namespaces with TUN devices and raw sockets in them, and what gives it. It
// looks once per process.
func Missing() string { return missing() }

// ReexecAsRoot runs this program again with the given arguments, which do not
// include the program's name, as root of a new user, network and mount
// namespace. There an ordinary user may make network namespaces, TUN devices
// and raw sockets, where the system allows it. Standard input, output and error
// are passed on, and so are SIGINT, SIGTERM and SIGHUP.
//
// It returns the exit code of that run, 128 and the signal's number when a
// signal ended it, or an error that names what the system does not allow. The
// loopback of the new network namespace is down until that run calls
// MaybeReexec.
func ReexecAsRoot(args []string) (exitCode int, err error) { return reexecAsRoot(args) }

// MaybeReexec makes a program that needs root run without: called first in main
// or TestMain, it runs the whole command line again by ReexecAsRoot unless the
// process is root already. When done is true the work has been done and the
// caller exits with exitCode; when it is false and err is nil, the caller is
// root and carries on.
func MaybeReexec() (exitCode int, done bool, err error) {
	if os.Geteuid() == 0 {
		return 0, false, arriveAsRoot()
	}
	exitCode, err = ReexecAsRoot(os.Args[1:])
	return exitCode, err == nil, err
}

// Main is TestMain for a package whose tests need namespaces, so that they also
// run without root: func TestMain(m *testing.M) { nstest.Main(m) }. Where that
// is not possible the tests run all the same, and Need skips.
func Main(m interface{ Run() int }) {
	exitCode, done, err := MaybeReexec()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if !done {
		exitCode = m.Run()
	}
	os.Exit(exitCode)
}
