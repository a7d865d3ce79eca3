package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/programtest"
	"sixin4/tun/ifcfg"
)

// sixin4 runs one command line in this process.
func sixin4(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), args, &out, &err)
	return code, out.String(), err.String()
}

func TestCommandLineErrors(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.toml")
	wrong := filepath.Join(t.TempDir(), "wrong.toml")
	if err := os.WriteFile(wrong, []byte("remote = \"198.51.100.1\"\nmtu = 1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args string
		code int
		want string
	}{
		{"", exit.Usage, "no command: up, connect, proxy, status, bench, demo or version (sixin4 --help says more)"},
		{"ups", exit.Usage, `unknown command "ups"; the nearest is up`},
		{"frobnicate", exit.Usage, `unknown command "frobnicate" (sixin4 --help lists them)`},
		{"bench", exit.Usage, "bench: what? (sixin4 bench --help shows examples)"},
		{"bench pears", exit.Usage, `unknown command "pears" (sixin4 bench --help lists them)`},
		{"bench pair --rounds -1", exit.Usage, "--rounds -1: a number from 1 belongs here"},
		{"bench micro --rounds -1", exit.Usage, "--rounds -1: a number from 1 belongs here"},
		{"bench pair --gro maybe", exit.Usage, "--gro maybe: off, on or both"},
		{"bench pair --columns gre", exit.Usage, `bench pair: column "gre": not one of auto, packet, raw, udp, proxy, wireguard`},
		{"bench pair --duration -1s", exit.Usage, "--duration -1s: a time like 2s belongs here"},
		{"--version", exit.Usage, "unknown flag --version (sixin4 --help lists them)"},
		{"up --adress 2001:db8::2/64", exit.Usage, "unknown flag --adress; the nearest is --address"},
		{"up --clamp-rss auto", exit.Usage, "unknown flag --clamp-rss; the nearest is --clamp-mss"},
		{"up -x", exit.Usage, "unknown flag -x (sixin4 up --help lists them)"},
		{"up --remote", exit.Usage, "flag needs an argument: --remote"},
		{"up 198.51.100.1", exit.Usage, `up: unexpected "198.51.100.1": every value belongs to a flag (sixin4 up --help shows examples)`},
		{"up", exit.Usage, "no far end: give --remote A.B.C.D, or --peer A.B.C.D=PREFIX once for each peer of a hub"},
		{"up --json --remote 198.51.100.1", exit.Usage, "--json: only with --dry-run; a running tunnel is shown by sixin4 status --json"},
		{"up --remote 2001:db8::1", exit.Usage, "--remote 2001:db8::1: an IPv6 address; the far end of the tunnel is an IPv4 address, like 198.51.100.1"},
		{"up --remote 198.51.100.1 --mtu probe", exit.Usage, "--mtu probe: nobody is known to ask at the far end; give --keepalive ADDRESS, its IPv6 address in the tunnel"},
		{"up --peer 6rd", exit.Usage, "--peer 6rd: it takes the prefix of the provider, how many leading bits of IPv4 addresses are left out, and the border relay, like 6rd=2001:db8::/32,0,198.51.100.1"},
		{"up --verbose=maybe --remote 198.51.100.1", exit.Usage, "--verbose maybe: neither true nor false"},
		{"up --config " + missing, exit.Config, "open " + missing + ": no such file or directory"},
		{"up --config " + wrong, exit.Config, wrong + `:2: mtu = "1000": out of range; auto, probe, or 1280 (the least that IPv6 works with) to 65515 (the most that fits IPv4)`},
		{"status a b", exit.Usage, `status: unexpected "b": at most one NAME`},
		{"status ../etc", exit.Usage, `status: "../etc": ` + ifcfg.CheckName("../etc").Error()},
		{"status --socket=", exit.Usage, `--socket "": empty; the path of a socket belongs here, like /run/sixin4/home.sock`},
		{"status --socket " + missing, exit.NotRunning, "no tunnel is running"},
		{"status no-such-tunnel", exit.NotRunning, "no tunnel no-such-tunnel is running"},
		{"version 1", exit.Usage, `version: unexpected "1": every value belongs to a flag (sixin4 version --help shows examples)`},
		{"demo 1", exit.Usage, `demo: unexpected "1": every value belongs to a flag (sixin4 demo --help shows examples)`},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			code, stdout, stderr := sixin4(strings.Fields(tt.args)...)
			if code != tt.code {
				t.Errorf("exit status %d, want %d", code, tt.code)
			}
			if want := "sixin4: " + tt.want + "\n"; stderr != want {
				t.Errorf("standard error:\n got %swant %s", stderr, want)
			}
			if stdout != "" {
				t.Errorf("standard output %q, want none", stdout)
			}
		})
	}
}

// TestHelp: every command has a help text with examples that are about itself.
func TestHelp(t *testing.T) { programtest.Help(t, newRoot(nil, nil), sixin4) }

func TestHelpConfig(t *testing.T) {
	code, stdout, _ := sixin4("help", "config")
	if code != exit.OK || !strings.Contains(stdout, "\nlog-format = \"text\"\n") {
		t.Errorf("exit status %d, %s", code, stdout)
	}
}

func TestCompletion(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"__complete", "up", "--mtu", ""}, "auto\nprobe\n1280\n1480\n"},
		{[]string{"__complete", "up", "--tt"}, "--ttl\t"},
		{[]string{"completion", "bash"}, "# bash completion"},
	} {
		code, stdout, _ := sixin4(tt.args...)
		if code != exit.OK || !strings.HasPrefix(stdout, tt.want) {
			t.Errorf("%v: exit status %d, want %q, got\n%.200s", tt.args, code, tt.want, stdout)
		}
	}
}

func TestVersion(t *testing.T) {
	version = "v1.2.3"
	t.Cleanup(func() { version = "" })
	code, stdout, _ := sixin4("version")
	if want := "sixin4 v1.2.3 (" + runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH + ")\n"; code != 0 || stdout != want {
		t.Errorf("got %d, %q; want %q", code, stdout, want)
	}
	_, stdout, _ = sixin4("version", "--json")
	var v struct{ Version string }
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || v.Version != "v1.2.3" {
		t.Errorf("as JSON: %q, %v", stdout, err)
	}
}

// runFake answers on a socket like a tunnel called name.
func runFake(t *testing.T, path, name string) {
	t.Helper()
	s, err := control.Listen(control.Config{Path: path, Status: func() control.Tunnel {
		return control.Tunnel{Name: name, Mode: "static", State: "up", Wire: "raw", Local: "192.0.2.1", MTU: 1480}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; s.Close() })
}

func TestStatus(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	runFake(t, filepath.Join(dir, "sixin4", "test-tunnel-a.sock"), "test-tunnel-a")
	runFake(t, filepath.Join(dir, "sixin4", "test-tunnel-b.sock"), "test-tunnel-b")
	other := filepath.Join(dir, "other.sock")
	runFake(t, other, "test-tunnel-c")

	for _, tt := range []struct {
		name, args string
		want, not  string
	}{
		{"all", "status", "\n\ntest-tunnel-b: up", "test-tunnel-c"},
		{"one", "status test-tunnel-b", "test-tunnel-b: up", "test-tunnel-a"},
		{"a socket", "status --socket " + other, "test-tunnel-c: up", "test-tunnel-a"},
		{"as JSON", "status test-tunnel-a --json", `"name": "test-tunnel-a"`, "test-tunnel-b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := sixin4(strings.Fields(tt.args)...)
			if code != exit.OK || !strings.Contains(stdout, tt.want) || strings.Contains(stdout, tt.not) {
				t.Errorf("%d, %s; want %q and not %q in\n%s", code, stderr, tt.want, tt.not, stdout)
			}
		})
	}
	code, stdout, _ := sixin4("status", "--json", "test-tunnel-d")
	if code != exit.NotRunning || stdout != "{\n  \"tunnels\": []\n}\n" {
		t.Errorf("JSON of no tunnel: %d, %q", code, stdout)
	}
	code, stdout, _ = sixin4("__complete", "status", "")
	if code != exit.OK || !strings.Contains(stdout, "test-tunnel-a\ntest-tunnel-b\n") {
		t.Errorf("completion of names: %d, %q", code, stdout)
	}
}
