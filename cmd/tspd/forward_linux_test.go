package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
	"sixin4/tun/nstest"
)

// forwarding is the switch of all interfaces, or of one.
func forwarding(t *testing.T, ns *nstest.NS, link string) (now string) {
	t.Helper()
	err := ns.Do(func() error {
		b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + link + "/forwarding")
		now = strings.TrimSpace(string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// TestForwardingComesBack: what --configure-host sets is set back at the end, and after
// a kill by the next start or at its end.
func TestForwardingComesBack(t *testing.T) {
	for _, tt := range []struct {
		name   string
		kill   bool
		second []string // arguments of another start; nil for none
		before string   // forwarding while the second runs
	}{
		{"orderly end", false, nil, ""},
		{"killed, started with it again", true, []string{"--configure-host"}, "1"},
		{"killed, started without", true, []string{}, "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, topo := newDesk(t), namespace(t)
			if err := topo.B.Sysctl("net/ipv6/conf/b0/forwarding", "1"); err != nil {
				t.Fatal(err)
			}
			args := []string{"--prefix", "2001:db8:1000::/36", "--state", d.path("tspd.db"), "--socket", d.path("s"), "--iterations", "4096"}
			b := serveIn(t, topo.B, append(args, "--configure-host")...)
			if now := forwarding(t, topo.B, "all"); now != "1" || b.ready == "" {
				t.Fatalf("forwarding %s, want 1; standard error:\n%s", now, b.stderr.String())
			}
			if tt.kill {
				if err := b.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				b.code()
			} else {
				b.stop()
			}
			if tt.second != nil {
				b := serveIn(t, topo.B, append(args, tt.second...)...)
				if now := forwarding(t, topo.B, "all"); now != tt.before || b.ready == "" {
					t.Errorf("forwarding %s after the second start, want %s; standard error:\n%s", now, tt.before, b.stderr.String())
				}
				b.stop()
			}
			if all, one := forwarding(t, topo.B, "all"), forwarding(t, topo.B, "b0"); all != "0" || one != "1" {
				t.Errorf("forwarding at the end: %s, of b0 %s; want 0 and 1", all, one)
			}
			if files, _ := filepath.Glob(d.path("*.state*")); len(files) != 0 {
				t.Errorf("left: %v", files)
			}
		})
	}
}

// TestForwardingOfOthers: what somebody else has set meanwhile stays.
func TestForwardingOfOthers(t *testing.T) {
	d, topo := newDesk(t), namespace(t)
	args := []string{"--prefix", "2001:db8:1000::/36", "--state", d.path("tspd.db"), "--socket", d.path("s"), "--configure-host", "--iterations", "4096"}
	if err := topo.B.Sysctl("net/ipv6/conf/all/forwarding", "1"); err != nil {
		t.Fatal(err)
	}
	b := serveIn(t, topo.B, args...)
	b.stop()
	if now := forwarding(t, topo.B, "all"); now != "1" {
		t.Errorf("forwarding %s, which was on before", now)
	}
	if err := os.WriteFile(d.path("tspd0.state"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	b = serveIn(t, topo.B, args...)
	if code := b.code(); code != exit.Failure || !strings.Contains(b.stderr.String(), "not understood") {
		t.Errorf("a state file of nonsense: %d, %s", code, b.stderr.String())
	}
}
