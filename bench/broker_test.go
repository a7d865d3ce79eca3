package bench

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sixin4/bench/load"
	"sixin4/tun/nstest"
)

func TestBrokerConfig(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cfg   BrokerConfig
		want  BrokerConfig // the numbers
		error string
	}{
		{"default", BrokerConfig{}, BrokerConfig{Users: 100_000, Tunnels: 20_000, Sessions: 50_000, Rounds: 3}, ""},
		{"quick", BrokerConfig{Quick: true}, BrokerConfig{Users: 2000, Tunnels: 500, Sessions: 2000, Rounds: 1}, ""},
		{"as told", BrokerConfig{Users: 5, Tunnels: 5, Sessions: 7, Rounds: 2}, BrokerConfig{Users: 5, Tunnels: 5, Sessions: 7, Rounds: 2}, ""},
		{"more tunnels than users", BrokerConfig{Users: 10, Tunnels: 11}, BrokerConfig{}, "11 tunnels for 10 users"},
		{"more than addresses", BrokerConfig{Users: 200_000, Tunnels: 150_000}, BrokerConfig{}, "150000 tunnels"},
		{"less than none", BrokerConfig{Rounds: -1}, BrokerConfig{}, "-1"},
		{"a part that there is not", BrokerConfig{Parts: []string{"rate", "speed"}}, BrokerConfig{}, `no part "speed"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := tt.cfg.withDefaults()
			if tt.error != "" {
				if err == nil || !strings.Contains(err.Error(), tt.error) {
					t.Errorf("error %v, want one with %q", err, tt.error)
				}
				return
			}
			w := tt.want
			if err != nil || c.Users != w.Users || c.Tunnels != w.Tunnels || c.Sessions != w.Sessions || c.Rounds != w.Rounds ||
				c.Progress == nil || len(c.Parts) != len(BrokerParts()) {
				t.Errorf("got %+v, %v", c, err)
			}
		})
	}
}

func TestBrokerNeedsProgram(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "tspd")
	t.Setenv("TMPDIR", t.TempDir())
	nothingLeft(t)
	_, err := brokerOf(t.Context(), BrokerConfig{Progress: io.Discard}, quickSizes, missing, missing)
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("error %v, want one that says what to do", err)
	}
}

// tinySizes are enough to see that everything works.
var tinySizes = brokerSizes{
	rateTime: 100 * time.Millisecond, carryRate: 1000, packets: 300, slices: 2, settle: 100 * time.Millisecond, tries: 3, guesses: 12,
	attack:     load.Attack{Silent: 30, Drips: 3, PerSecond: 5, Passwords: 12, Guessers: 4},
	attackWarm: 300 * time.Millisecond, attackMost: time.Minute,
}

// TestBrokerMeasuresAll runs all parts with few clients, and looks at what does not
// depend on how busy the machine is.
func TestBrokerMeasuresAll(t *testing.T) {
	nstest.Need(t)
	self, path := program(t), tspd(t)
	t.Setenv("TMPDIR", t.TempDir())
	nothingLeft(t)
	cfg, err := BrokerConfig{Users: 30, Tunnels: 20, Sessions: 60, Rounds: 1}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Progress = t.Output()
	r, err := brokerOf(t.Context(), cfg, tinySizes, self, path)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, row := range r.Tables[0].Rows {
		if f := row.Cells[0].Figure; f == nil || len(f.Rounds) == 0 {
			t.Errorf("%s: no figure", row.Name)
		} else {
			got[strings.TrimSpace(row.Name)] = f.Median
		}
	}
	for name, want := range map[string]float64{
		"tunnels that carry traffic, all tunnels":    20,
		"sessions for each client":                   1,
		"descriptors more for each 100 000 sessions": -1, // that there is one
	} {
		found := false
		for row, v := range got {
			found = found || strings.HasPrefix(row, name) && (v == want || want < 0)
		}
		if !found {
			t.Errorf("no row %q of %v in %v", name, want, got)
		}
	}
	for _, name := range []string{"users stored a second", "sessions a second over UDP, SCRAM-SHA-256", "sessions a second over UDP, DIGEST-MD5"} {
		if got[name] <= 0 {
			t.Errorf("%s: %v", name, got[name])
		}
	}
	if !strings.Contains(strings.Join(r.Notes, "\n"), ", 12 wrong passwords") {
		t.Errorf("notes %q", r.Notes)
	}
}

// TestBrokerSaysWhatFailed: a broker that does not start is named, with what it said.
func TestBrokerSaysWhatFailed(t *testing.T) {
	nstest.Need(t)
	path := script(t)
	t.Setenv("TMPDIR", t.TempDir())
	nothingLeft(t)
	cfg, err := BrokerConfig{Users: 3, Tunnels: 3}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := brokerOf(t.Context(), cfg, tinySizes, path, path); err == nil || !strings.Contains(err.Error(), "serve is broken") {
		t.Errorf("error %v, want what the program said", err)
	}
}
