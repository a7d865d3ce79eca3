package daemon

import (
	"testing"
	"time"

	"sixin4/tun"
	"sixin4/tun/ifcfg"
	"sixin4/tun/nstest"
)

// TestHasNoInterface: an interface is gone once it is, not before.
func TestHasNoInterface(t *testing.T) {
	ns := nstest.Open(t)
	err := ns.Do(func() error {
		device, err := tun.Open(tun.Config{Name: "six0"})
		if err != nil {
			return err
		}
		defer device.Close()
		t0 := new(tunnel)
		if t0.iface, err = ifcfg.ByName("six0"); err != nil {
			return err
		}
		if t0.hasNoInterface() {
			t.Error("it is there, and is said to be gone")
		}
		if err := device.Close(); err != nil {
			return err
		}
		nstest.Eventually(t, 10*time.Second, "its end", t0.hasNoInterface)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
