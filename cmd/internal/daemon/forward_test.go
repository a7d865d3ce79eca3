package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sixin4/cmd/internal/state"
)

// switches are the files of a host: those of all interfaces, and of each.
type switches struct {
	t    *testing.T
	root string
}

func newSwitches(t *testing.T, pairs ...string) switches {
	s := switches{t, t.TempDir() + "/"}
	for i := 0; i < len(pairs); i += 2 {
		s.set(pairs[i], pairs[i+1])
	}
	return s
}

func (s switches) path(link string) string { return s.root + "net/ipv6/conf/" + link + "/forwarding" }

func (s switches) set(link, value string) {
	s.t.Helper()
	err := os.MkdirAll(filepath.Dir(s.path(link)), 0o755)
	if err == nil {
		err = os.WriteFile(s.path(link), []byte(value+"\n"), 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s switches) get(link string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.path(link))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestRestore(t *testing.T) {
	conf := func(link string) string { return "net/ipv6/conf/" + link + "/forwarding" }
	record := state.Sysctl{Path: forwarding, Was: 0, Set: 1, Keep: []string{conf("eth0"), conf("gone")}}
	for _, tt := range []struct {
		name      string
		all, eth0 string // before
		want      string // all, eth0
		err       string
	}{
		{"ours", "1", "0", "0 1", ""},
		{"somebody has turned it off", "0", "0", "0 0", ""},
		{"somebody has set another", "2", "1", "2 1", ""},
		{"no number", "on", "1", "on 1", `net.ipv6.conf.all.forwarding: strconv.ParseUint: parsing "on": invalid syntax`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSwitches(t, "all", tt.all, "eth0", tt.eth0)
			err := router{root: s.root}.restore(record)
			if err != nil && err.Error() != tt.err || err == nil && tt.err != "" {
				t.Errorf("%v, want %q", err, tt.err)
			}
			if got := s.get("all") + " " + s.get("eth0"); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
	if err := (router{root: t.TempDir() + "/"}).restore(record); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without IPv6: %v", err)
	}
}

// TestTurnOn: the record is there before the change, and says which interfaces
// forwarded already; it replaces one of an earlier run, and goes when the change fails.
func TestTurnOn(t *testing.T) {
	s := newSwitches(t, "all", "0", "eth0", "1", "eth1", "0")
	path := filepath.Join(t.TempDir(), "tspd0.state")
	open := func() router {
		f, err := state.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return router{s.root, f}
	}
	r := open()
	first, err := r.turnOn(nil)
	if err != nil {
		t.Fatal(err)
	}
	keep := []string{"net/ipv6/conf/eth0/forwarding"}
	if got := *first[0].Record.Sysctl; s.get("all") != "1" || got.Set != 1 || got.Was != 0 || !slices.Equal(got.Keep, keep) {
		t.Errorf("record %+v, forwarding %s", got, s.get("all"))
	}
	if err := r.file.Close(); err != nil { // as if killed
		t.Fatal(err)
	}

	r = open()
	s.set("all", "0") // by somebody else
	second, err := r.turnOn(r.file.Inherited())
	if err != nil || len(second) != 1 {
		t.Fatalf("%v, %v", second, err)
	}
	if err := r.back(second); err != nil || s.get("all") != "0" || s.get("eth0") != "1" {
		t.Errorf("%v; forwarding %s, of eth0 %s", err, s.get("all"), s.get("eth0"))
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state file: %v, want it gone", err)
	}

	r.root = t.TempDir() + "/none/"
	if _, err := r.turnOn(nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a change that fails: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a change that failed, the state file: %v", err)
	}
}
