package daemon

import (
	"testing"

	"sixin4/tun"
	"sixin4/tun/nstest"
)

// staleNames is a host where somebody takes the first free name before we do.
type staleNames struct {
	fakeHost
	names []string
}

func (h *staleNames) FreeName(string, func(string) bool) (string, error) {
	name := h.names[0]
	h.names = h.names[1:]
	return name, nil
}

func TestNameTakenMeanwhile(t *testing.T) {
	ns := nstest.Open(t)
	err := ns.Do(func() error {
		other, err := tun.Open(tun.Config{Name: "sixin4-0"})
		if err != nil {
			return err
		}
		defer other.Close()
		cfg := checked(t, "remote", "198.51.100.1")
		tt := &static{
			tunnel: newTunnel(staticSettings(cfg), Env{
				fake: &staleNames{names: []string{"sixin4-1"}}, SocketDirs: []string{t.TempDir()}, Logger: discard,
			}),
			cfg:  cfg,
			plan: Plan{Name: "sixin4-0", MTU: 1480},
		}
		defer tt.undo.Undo()
		if err := tt.openDevice(); err != nil {
			return err
		}
		if name := tt.device.Name(); name != "sixin4-1" || tt.name != name || tt.plan.Name != name {
			t.Errorf("device %s, tunnel %s, plan %s; want sixin4-1 for all", name, tt.name, tt.plan.Name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
