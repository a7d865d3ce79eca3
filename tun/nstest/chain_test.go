package nstest

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// TestChain: a chain that drops stops what is sent, one that accepts does not,
// and one that is taken away is gone.
func TestChain(t *testing.T) {
	Need(t)
	top, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { top.Close() })
	send := func() error {
		return top.A.Do(func() error {
			c, err := net.Dial("udp4", "192.0.2.2:9")
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte{1})
			return err
		})
	}
	for _, c := range []Chain{{Family: "ip", Hook: "output"}, {Family: "inet", Hook: "output"}} {
		for _, c.Drop = range []bool{false, true} {
			if err := top.A.AddChain(c); err != nil {
				t.Fatal(err)
			}
			if err := top.A.AddChain(c); !errors.Is(err, syscall.EEXIST) {
				t.Errorf("%+v made twice: %v", c, err)
			}
			if err := send(); errors.Is(err, syscall.EPERM) != c.Drop {
				t.Errorf("%+v: send: %v", c, err)
			}
			if err := top.A.DelChain(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := send(); err != nil {
			t.Errorf("%+v is gone: send: %v", c, err)
		}
	}
}

func TestChainRefuses(t *testing.T) {
	ns := Open(t)
	for name, c := range map[string]Chain{
		"no such family": {Family: "ip7", Hook: "output"}, "no such hook": {Family: "ip", Hook: "in"},
	} {
		if err := ns.AddChain(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
