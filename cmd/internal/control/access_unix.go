//go:build unix

package control

import "golang.org/x/sys/unix"

// access asks the kernel whether files can be made in dir: the mode alone does
// not tell of a read-only file system.
func access(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
