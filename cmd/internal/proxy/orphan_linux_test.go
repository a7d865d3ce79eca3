package proxy

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestCommandOrphan: a command whose proxy is killed gets SIGTERM.
func TestCommandOrphan(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	begun := filepath.Join(t.TempDir(), "begun")
	said, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	p := exec.Command(self, begun)
	p.Env, p.Stdout = append(os.Environ(), childRole+"=parent"), out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	for deadline := time.Now().Add(limit); ; {
		if _, err := os.Stat(begun); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Error("the command has not begun")
			break
		}
	}
	_ = p.Process.Kill()
	_ = p.Wait()
	_ = said.SetReadDeadline(time.Now().Add(limit))
	if b, err := io.ReadAll(said); !bytes.Equal(b, []byte("terminated\n")) || err != nil {
		t.Errorf("the command said %q, %v", b, err)
	}
}
