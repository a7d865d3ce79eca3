package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sixin4/tun/nstest"
)

// TestMain makes the test program behave as the hidden subcommands do.
func TestMain(m *testing.M) {
	if exit, handled := Hidden(os.Args[1:]); handled {
		os.Exit(exit)
	}
	nstest.Main(m)
}

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

// program builds the real one, which the test program cannot stand in for.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sixin4")
	out, err := exec.Command("go", "build", "-o", path, "sixin4/cmd/sixin4").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

func TestPairMeasuresAll(t *testing.T) {
	nstest.Need(t)
	cfg, err := PairConfig{Quick: true, Rounds: 1, Duration: 100 * time.Millisecond, GRO: GROOn, fine: 4}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r, err := pairOf(t.Context(), cfg, program(t))
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
	_, err = pairOf(t.Context(), cfg, script)
	if err == nil || !strings.Contains(err.Error(), "the tunnel is broken") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v, want the status and what it said", err)
	}
}
