//go:build 386 || amd64 || arm || arm64 || loong64 || mipsle || mips64le || ppc64le || riscv64

package kernelpath

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"github.com/cilium/ebpf/btf"
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

// TestLayout compares the Go types with those that the object describes, field by field.
func TestLayout(t *testing.T) {
	s, err := spec()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		own    any
		theirs btf.Type
		size   uint32
	}{
		{"flow", flow{}, s.Variables[varFlow].Type, s.Variables[varFlow].Size()},
		{"counters", counters{}, s.Maps[mapCounters].Value, s.Maps[mapCounters].ValueSize},
		{"a peer's ends", ends{}, s.Maps[mapPeers].Key, s.Maps[mapPeers].KeySize},
		{"a peer", peer{}, s.Maps[mapPeers].Value, s.Maps[mapPeers].ValueSize},
		{"a route", route{}, s.Maps[mapRoutes].Key, s.Maps[mapRoutes].KeySize},
		{"a way", way{}, s.Maps[mapRoutes].Value, s.Maps[mapRoutes].ValueSize},
	} {
		if got := binary.Size(c.own); got != int(c.size) {
			t.Errorf("%s has %d bytes, in the object %d", c.name, got, c.size)
		}
		own, theirs := ownFields(reflect.TypeOf(c.own)), theirFields(c.theirs)
		if !slices.Equal(own, theirs) {
			t.Errorf("%s has fields of %v bytes, in the object %v", c.name, own, theirs)
		}
	}
}

// ownFields are the sizes of what a type of Go is made of. Numbers in a row are one.
func ownFields(t reflect.Type) (sizes []int) {
	switch {
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			sizes = append(sizes, ownFields(t.Field(i).Type)...)
		}
		return sizes
	case t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Struct, t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Array:
		return slices.Repeat(ownFields(t.Elem()), t.Len())
	}
	return []int{int(t.Size())}
}

// theirFields is the same of a type of C, and what nothing is in has a negative size.
func theirFields(t btf.Type) (sizes []int) {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Var:
		return theirFields(t.Type)
	case *btf.Struct:
		end := 0
		for _, m := range t.Members {
			if at := int(m.Offset.Bytes()); at != end {
				sizes = append(sizes, end-at)
			}
			sizes = append(sizes, theirFields(m.Type)...)
			size, _ := btf.Sizeof(m.Type) // one that has none ends before the next begins
			end = int(m.Offset.Bytes()) + size
		}
		return sizes
	case *btf.Array:
		if _, ok := btf.UnderlyingType(t.Type).(*btf.Struct); ok {
			return slices.Repeat(theirFields(t.Type), int(t.Nelems))
		}
	}
	size, _ := btf.Sizeof(t)
	return []int{size}
}
