package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sixin4/bench/traffic"
	"sixin4/tun/nstest"
)

// TestMain makes the test program behave as the hidden subcommands do.
func TestMain(m *testing.M) {
	if exit, handled := Hidden(os.Args[1:]); handled {
		os.Exit(exit)
	}
	nstest.Main(withPrograms{m})
}

// withPrograms gives the tests a directory for the real programs, and removes it.
type withPrograms struct{ m *testing.M }

// programsDir is that directory.
var programsDir string

func (w withPrograms) Run() int {
	dir, err := os.MkdirTemp("", "sixin4-bench")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programsDir = dir
	return w.m.Run()
}

// built builds the real programs, once for all tests.
var built = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", programsDir+"/", "sixin4/cmd/sixin4", "sixin4/cmd/tspd").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
})

func TestHidden(t *testing.T) {
	for _, test := range []struct {
		name    string
		args    []string
		exit    int
		handled bool
	}{
		{"nothing", nil, 0, false},
		{"bench alone", []string{"bench"}, 0, false},
		{"a public one", []string{"bench", "pair"}, 0, false},
		{"another command", []string{"up", "naive"}, 0, false},
		{"traffic without a job", []string{"bench", "traffic"}, 1, true},
		{"attack without a job", []string{"bench", "attack"}, 1, true},
		{"naive without addresses", []string{"bench", "naive"}, 1, true},
		{"wireguard without a remote", []string{"bench", "wireguard"}, 1, true},
		{"wireguard with a bad remote", []string{"bench", "wireguard", "192.0.2.1", "true"}, 1, true},
		{"flood without a job", []string{"bench", "flood"}, 1, true},
		{"naive with a bad address", []string{"bench", "naive", "192.0.2.1", "B"}, 1, true},
		{"naive over IPv6", []string{"bench", "naive", "2001:db8::1", "192.0.2.2"}, 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			exit, handled := Hidden(test.args)
			if exit != test.exit || handled != test.handled {
				t.Errorf("got %d, %t, want %d, %t", exit, handled, test.exit, test.handled)
			}
		})
	}
}

func TestPairConfig(t *testing.T) {
	for _, test := range []struct {
		name string
		cfg  PairConfig
		want string
	}{
		{"rounds", PairConfig{Rounds: -1}, "-1 rounds"},
		{"duration", PairConfig{Duration: -time.Second}, "-1s"},
		{"gro", PairConfig{GRO: "maybe"}, `"maybe"`},
		{"columns", PairConfig{Columns: []string{"udp", "gre"}}, `column "gre": not one of auto, packet, raw, udp, proxy, wireguard`},
		{"rows", PairConfig{Rows: []string{"tcp2"}}, `row "tcp2": not one of tcp1, `},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Pair(t.Context(), test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %s", err, test.want)
			}
		})
	}
	full, err := PairConfig{}.withDefaults()
	if err != nil || full.Rounds != 5 || full.GRO != GROOff || full.Duration <= 0 || full.Progress == nil {
		t.Errorf("defaults are %+v, %v", full, err)
	}
}

// program is the path of the real sixin4, which the test program cannot stand in for;
// tspd is beside it.
func program(t *testing.T) string {
	t.Helper()
	if err := built(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(programsDir, "sixin4")
}

// tspd is the path of the real one.
func tspd(t *testing.T) string {
	t.Helper()
	return filepath.Join(filepath.Dir(program(t)), brokerProgram)
}

func TestPairMeasuresAll(t *testing.T) {
	nstest.Need(t)
	cfg, err := PairConfig{Quick: true, Rounds: 1, Duration: 100 * time.Millisecond, GRO: GROOn, fine: 4}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r, err := pairOf(t.Context(), cfg, program(t), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Tables) != 1 || r.Tables[0].Title != "Link GRO on" {
		t.Fatalf("tables %+v, want one with GRO on", r.Tables)
	}
	for _, row := range r.Tables[0].Rows {
		if strings.Contains(row.Name, "CPU") {
			continue // too little is carried in so short a time to tell
		}
		figure := row.Cells[engineColumn].Figure
		if figure == nil || figure.Median <= 0 || len(figure.Rounds) != 1 {
			t.Errorf("%s: no figure for the engine", row.Name)
		}
	}
}

// TestPairMeasuresOthers measures the columns that are not measured unless named.
func TestPairMeasuresOthers(t *testing.T) {
	nstest.Need(t)
	cfg, err := PairConfig{
		Quick: true, Rounds: 1, Duration: time.Second,
		Columns: []string{"wireguard", "udp", "proxy"}, Rows: []string{"tcp1", "ping", "flood"},
	}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r, err := pairOf(t.Context(), cfg, program(t), tspd(t))
	if err != nil {
		t.Fatal(err)
	}
	const want = "plain IPv4, naive loop, v6udpv4, proxy, wireguard-go"
	if got := strings.Join(r.Tables[0].Columns, ", "); got != want {
		t.Errorf("columns %s, want %s", got, want)
	}
	for _, row := range r.Tables[0].Rows {
		if strings.Contains(row.Name, "CPU") {
			continue
		}
		for i, cell := range row.Cells[2:] {
			name := r.Tables[0].Columns[2+i]
			// There is nobody to answer pings through a proxy, and only one broker to flood.
			none := name == "proxy" && strings.HasPrefix(row.Name, "ping") || name != "v6udpv4" && strings.Contains(row.Name, "forged")
			none = none || name != "v6udpv4" && strings.HasPrefix(row.Name, "  ")
			if (cell.Figure == nil) != none || !none && cell.Figure.Median <= 0 {
				t.Errorf("%s, %s: figure %+v", row.Name, name, cell.Figure)
			}
		}
	}
}

// A tunnel whose first packets are lost, here those of WireGuard's handshake, is measured
// only once it carries.
func TestPairWaitsForAnAnswer(t *testing.T) {
	nstest.Need(t)
	cfg, err := PairConfig{Columns: []string{"wireguard"}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPair(cfg, program(t), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	topo, err := p.topology(false)
	if err != nil {
		t.Fatal(err)
	}
	if err := topo.A.SetDown(topo.LinkA); err != nil {
		t.Fatal(err)
	}
	up := make(chan error, 1)
	time.AfterFunc(time.Second, func() { up <- topo.A.SetUp(topo.LinkA) })
	c := &column{from: topo.A, to: topo.B}
	defer func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := builders[wireguardColumn](t.Context(), p, c, topo, t.TempDir()); err != nil {
		t.Fatal(errors.Join(err, <-up))
	}
	if r, err := p.runner().Ping(t.Context(), c.from, c.addr, traffic.Ping{Count: 1}); err != nil || r.Received != 1 {
		t.Errorf("%+v, %v: not answered at once", r, err)
	}
	if err := <-up; err != nil {
		t.Error(err)
	}
}

func TestPairSaysWhyATunnelDoesNotStart(t *testing.T) {
	nstest.Need(t)
	cfg, err := PairConfig{Quick: true, Rounds: 1}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "sixin4")
	const broken = "#!/bin/sh\necho the tunnel is broken >&2\nexit 3\n"
	if err := os.WriteFile(script, []byte(broken), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = pairOf(t.Context(), cfg, script, "")
	if err == nil || !strings.Contains(err.Error(), "the tunnel is broken") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v, want the status and what it said", err)
	}
}
