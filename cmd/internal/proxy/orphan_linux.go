package proxy

import (
	"os/exec"
	"syscall"
)

// endWithUs has the command get SIGTERM when we are gone without a word, as by SIGKILL: its
// proxy is. The kernel takes the thread that starts the command for us (prctl(2)), so that
// it must last until the command has ended.
func endWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
