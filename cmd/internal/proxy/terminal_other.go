//go:build !unix

package proxy

import "os"

// fromTerminal reports whether the command has a signal already; here nothing is
// known about that.
func fromTerminal(os.Signal) bool { return false }
