//go:build unix

package hook

import "syscall"

// ownGroup makes the shell the head of a process group, which does not get the
// signals of our terminal.
func ownGroup() (*syscall.SysProcAttr, error) { return &syscall.SysProcAttr{Setpgid: true}, nil }

// signalGroup signals all processes of a group. An error means that there are none.
func signalGroup(group int, sig syscall.Signal) { _ = syscall.Kill(-group, sig) }

func groupExists(group int) bool { return syscall.Kill(-group, 0) == nil }
