//go:build 386 || amd64 || arm || arm64 || loong64 || mipsle || mips64le || ppc64le || riscv64

package kernelpath

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestObject compiles the programs again, as `make bpf` does, and compares.
func TestObject(t *testing.T) {
	const compiler = "clang-14"
	if _, err := exec.LookPath(compiler); err != nil {
		t.Skipf("needs %s, which made the committed object", compiler)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	rule := regexp.MustCompile(`(?m)^bpf:\n\tcd encap/kernelpath/bpf && \$\(CLANG\) ((?:.|\\\n)*) -c path\.c -o path\.o$`).FindSubmatch(makefile)
	if rule == nil {
		t.Fatal("the Makefile's rule for bpf is not what it was")
	}
	out := filepath.Join(t.TempDir(), "path.o")
	flags := bytes.ReplaceAll(bytes.ReplaceAll(rule[1], []byte("\\\n"), nil), []byte("$$"), []byte("$"))
	cmd := exec.Command("sh", "-c", compiler+" "+string(flags)+" -c path.c -o "+out)
	cmd.Dir = "bpf"
	wd, err := filepath.Abs("bpf")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "PWD="+wd)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	fresh, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(fresh, object) {
		t.Error("bpf/path.o is not made of bpf/path.c and bpf/kernel.h: make bpf")
	}
	if bytes.Contains(object, []byte(wd)) {
		t.Errorf("bpf/path.o has a path of the machine that made it: %s", wd)
	}
}

// TestLayout compares the Go types with those that the object describes.
func TestLayout(t *testing.T) {
	s, err := spec()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := binary.Size(flow{}), int(s.Variables[varFlow].Size()); got != want {
		t.Errorf("flow has %d bytes, in the object %d", got, want)
	}
	if got, want := binary.Size(counters{}), int(s.Maps[mapCounters].ValueSize); got != want {
		t.Errorf("counters have %d bytes, in the object %d", got, want)
	}
}
