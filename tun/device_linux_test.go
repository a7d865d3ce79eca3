package tun

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet"
	"sixin4/tun/nstest"
)

// gone waits until an interface that was closed has left the kernel: wireguard's
// device may be looking at it at that moment, and closes it when it has done.
func gone(t testing.TB, ns *nstest.NS, name string) {
	t.Helper()
	eventually(t, "interface "+name+" disappears", func() bool {
		_, err := ns.LinkStats(name)
		return err != nil
	})
}

// open makes a device in ns with an address, up.
func open(t testing.TB, ns *nstest.NS, cfg Config, addr string) *Device {
	t.Helper()
	var d *Device
	err := ns.Do(func() (err error) {
		d, err = Open(cfg)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if addr == "" {
		return d
	}
	if err := errors.Join(ns.SetUp(cfg.Name), ns.AddAddr(cfg.Name, addr)); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestOpen(t *testing.T) {
	for _, c := range []struct {
		name   string
		cfg    Config
		queues int
		fast   bool
	}{
		{"default", Config{Name: "tun-a"}, 1, true},
		{"four queues", Config{Name: "tun-b", Queues: 4}, 4, true},
		{"longest name", Config{Name: "tun-c-012345678", MTU: 1280}, 1, true},
		{"portable", Config{Name: "tun-d", NoOffload: true}, 1, false},
		{"portable has one queue", Config{Name: "tun-e", NoOffload: true, Queues: 4}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := nstest.Open(t)
			d := open(t, ns, c.cfg, "")
			if d.Name() != c.cfg.Name || d.Queues() != c.queues {
				t.Errorf("%s with %d queues, want %s with %d", d.Name(), d.Queues(), c.cfg.Name, c.queues)
			}
			f := d.Features()
			if c.fast && (!f.VnetHdr || !f.CSUM || !f.TSO4 || !f.TSO6) {
				t.Errorf("offloads %v", f)
			}
			if want := (Features{}); !c.fast && f != want {
				t.Errorf("the portable path claims offloads: %v", f)
			}
			if c.fast {
				checkKernelOffloads(t, ns, d)
			}
			if _, err := ns.LinkStats(c.cfg.Name); err != nil {
				t.Errorf("no such interface: %v", err)
			}
			if err := d.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			gone(t, ns, c.cfg.Name)
			if err := d.Close(); err != nil {
				t.Errorf("second close: %v", err)
			}
		})
	}
}

// checkKernelOffloads compares what the device says with what the kernel shows.
func checkKernelOffloads(t *testing.T, ns *nstest.NS, d *Device) {
	t.Helper()
	kernel, err := ns.Features(d.Name())
	if err != nil {
		t.Fatal(err)
	}
	f := d.Features()
	for name, have := range map[string]bool{
		"tx-checksum-ip-generic": f.CSUM, "tx-tcp-segmentation": f.TSO4,
		"tx-tcp6-segmentation": f.TSO6, "tx-udp-segmentation": f.USO6,
	} {
		if kernel[name] != have {
			t.Errorf("%s is %t, the device says %t", name, kernel[name], have)
		}
	}
}

func TestFeaturesNamesMissing(t *testing.T) {
	f := Features{VnetHdr: true, CSUM: true, TSO4: true, TSO6: true}
	if got := f.String(); got != "without USO4, USO6" {
		t.Errorf("%q", got)
	}
	if got := (Features{}).Missing(); !slices.Equal(got, []string{"VNET_HDR", "CSUM", "TSO4", "TSO6", "USO4", "USO6"}) {
		t.Errorf("%v", got)
	}
	if got := (Features{true, true, true, true, true, true}).String(); got != "all offloads" {
		t.Errorf("%q", got)
	}
}

func TestOpenRefusesTakenName(t *testing.T) {
	for _, portable := range []bool{false, true} {
		ns := nstest.Open(t)
		open(t, ns, Config{Name: "taken0", NoOffload: portable}, "")
		err := ns.Do(func() error {
			_, err := Open(Config{Name: "taken0", NoOffload: portable})
			return err
		})
		want := "an interface of this name exists, choose another"
		if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), want) {
			t.Errorf("portable %t: %v, want %q", portable, err, want)
		}
		if err := nstest.Link(ns, "veth-a", ns, "veth-b"); err != nil {
			t.Fatal(err)
		}
		err = ns.Do(func() error {
			_, err := Open(Config{Name: "veth-a", NoOffload: portable})
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "veth-a") || !strings.Contains(err.Error(), want) {
			t.Errorf("portable %t, a veth has the name: %v, want %q", portable, err, want)
		}
	}
}

func TestOpenRefusesBadName(t *testing.T) {
	ns := nstest.Open(t)
	err := ns.Do(func() error {
		_, err := Open(Config{Name: "much-longer-than-15"})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "much-longer-than-15") {
		t.Errorf("error %v does not name the name", err)
	}
}

// TestCloseWakesRead: on every queue.
func TestCloseWakesRead(t *testing.T) {
	for name, cfg := range map[string]Config{
		"one queue": {Name: "wake0"}, "four queues": {Name: "wake0", Queues: 4}, "portable": {Name: "wake0", NoOffload: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, nstest.Open(t), cfg, "")
			began, ended := make(chan bool, 4), make(chan error, 4)
			for i := range d.Queues() {
				go func() {
					began <- true
					ended <- d.Reader(i).Read(packet.NewBatch(BatchSize))
				}()
			}
			for range d.Queues() {
				within(t, "reader started", began)
			}
			if err := d.Reader(0).Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			for range d.Queues() {
				if err := within(t, "Read returned", ended); !errors.Is(err, os.ErrClosed) {
					t.Errorf("read: %v, want %v", err, os.ErrClosed)
				}
			}
			if err := d.Reader(0).Read(packet.NewBatch(1)); !errors.Is(err, os.ErrClosed) {
				t.Errorf("read after close: %v, want %v", err, os.ErrClosed)
			}
			if n, err := d.NewWriter().Write(batchOf(seg(0))); n != 0 || !errors.Is(err, os.ErrClosed) {
				t.Errorf("write after close: %d, %v, want %v", n, err, os.ErrClosed)
			}
		})
	}
}

// TestWriteWhileDown: EIO for each packet, and no more than that.
func TestWriteWhileDown(t *testing.T) {
	for name, portable := range map[string]bool{"fast": false, "portable": true} {
		t.Run(name, func(t *testing.T) {
			ns := nstest.Open(t)
			d := open(t, ns, Config{Name: "down0", NoOffload: portable}, "")
			w := d.NewWriter()
			b := batchOf(seg(0), seg(1), dgram(9))
			if n, err := w.Write(b); n != 0 || !errors.Is(err, unix.EIO) {
				t.Errorf("wrote %d, %v, want %v", n, err, unix.EIO)
			}
			for i := range b.Packets {
				if err := b.Packets[i].Err; !errors.Is(err, unix.EIO) {
					t.Errorf("packet %d: %v, want %v", i, err, unix.EIO)
				}
			}
			if err := ns.SetUp("down0"); err != nil {
				t.Fatal(err)
			}
			if n, err := w.Write(batchOf(seg(0), seg(1), dgram(9))); n != 3 || err != nil {
				t.Errorf("up again: wrote %d, %v", n, err)
			}
		})
	}
}

// TestReadAfterDeletion: an interface that somebody deleted is an error, not
// a closed device.
func TestReadAfterDeletion(t *testing.T) {
	for name, portable := range map[string]bool{"fast": false, "portable": true} {
		t.Run(name, func(t *testing.T) {
			ns := nstest.Open(t)
			d := open(t, ns, Config{Name: "gone0", NoOffload: portable}, "")
			ended := make(chan error, 1)
			go func() { ended <- d.Reader(0).Read(packet.NewBatch(BatchSize)) }()
			if err := ns.DelLink("gone0"); err != nil {
				t.Fatal(err)
			}
			err := within(t, "Read returned", ended)
			if err == nil || errors.Is(err, os.ErrClosed) {
				t.Errorf("read: %v, want an error that is not os.ErrClosed", err)
			}
			if n, err := d.NewWriter().Write(batchOf(seg(0))); n != 0 || err == nil {
				t.Errorf("write: %d, %v, want an error", n, err)
			}
			if err := d.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// TestNothingIsLeft: no descriptor and no goroutine survives Close, nor an Open
// that failed.
func TestNothingIsLeft(t *testing.T) {
	ns := nstest.Open(t)
	round := func(cfg Config) {
		d := open(t, ns, cfg, "")
		ended := make(chan error, 1)
		go func() { ended <- d.Reader(0).Read(packet.NewBatch(1)) }()
		_ = ns.Do(func() error {
			if _, err := Open(cfg); err == nil {
				t.Error("opened twice")
			}
			return nil
		})
		d.Close()
		within(t, "Read returned", ended)
		gone(t, ns, cfg.Name)
	}
	configs := []Config{{Name: "leak0"}, {Name: "leak0", Queues: 3}, {Name: "leak0", NoOffload: true}}
	for _, cfg := range configs {
		round(cfg) // the first time, the runtime opens its poller
	}
	runtime.GC()
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 5 {
		for _, cfg := range configs {
			round(cfg)
		}
	}
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "descriptors are closed", func() bool { return openFiles(t) <= files })
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
