// Package arch holds the architecture as tests: who may import whom, and that
// everything builds on other systems. docs/architecture.md has the picture.
package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "sixin4"

// listed is what `go list -json` says about a package.
type listed struct {
	ImportPath   string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func goCommand(t *testing.T, env []string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = "../../.."
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// packages lists our own packages as one system sees them.
func packages(t *testing.T, goos string) []listed {
	t.Helper()
	out := goCommand(t, []string{"GOOS=" + goos, "CGO_ENABLED=0"},
		"list", "-e", "-json=ImportPath,Standard,Imports,TestImports,XTestImports", "./...")
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("only %d packages found", len(all))
	}
	return all
}

// short takes the module off an import path.
func short(importPath string) string { return strings.TrimPrefix(importPath, module+"/") }

// ours reports whether an import path belongs to this project.
func ours(importPath string) bool { return strings.HasPrefix(importPath, module+"/") }

// side is the first element of the path: cmd, tun, encap, tsp or bench.
func side(importPath string) string {
	first, _, _ := strings.Cut(short(importPath), "/")
	return first
}

const leaf = module + "/encap/packet"

// inLeaf reports whether a package belongs to what both sides speak.
func inLeaf(importPath string) bool {
	return importPath == leaf || strings.HasPrefix(importPath, leaf+"/")
}

// forTests are helpers that only tests import, except that the benchmark and the
// demo use namespaces and a scripted broker too.
var forTests = map[string][]string{
	module + "/encap/packettest":           nil,
	module + "/tsp/tsptest":                {"bench"},
	module + "/tsp/broker/store/storetest": nil,
	module + "/tun/nstest":                 {"bench", "cmd"},
	module + "/cmd/internal/programtest":   nil,
}

// breach says what is wrong with from importing to, or nothing. A test may
// import helpers, but crosses no other line.
func breach(from, to string, test bool) string {
	a, b := side(from), side(to)
	if users, helper := forTests[to]; helper {
		if test || from == to || slices.Contains(users, a) {
			return ""
		}
		return "is for tests"
	}
	switch {
	case b == "bench" && a != "bench" && a != "cmd":
		return "only cmd imports bench"
	case b == "cmd" && a != "cmd":
		return "nothing imports cmd"
	case a == "cmd" || a == "bench" && b != "cmd":
		return ""
	case inLeaf(from) && !inLeaf(to):
		return "the leaf encap/packet imports nothing of ours"
	case a != b && !inLeaf(to):
		return "tun, encap and tsp never import one another, encap/packet excepted"
	}
	return ""
}

func TestArrows(t *testing.T) {
	for _, p := range packages(t, "linux") {
		for _, to := range p.Imports {
			if why := breach(p.ImportPath, to, false); ours(to) && why != "" {
				t.Errorf("%s imports %s: %s", short(p.ImportPath), short(to), why)
			}
		}
		for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
			if why := breach(p.ImportPath, to, true); ours(to) && why != "" {
				t.Errorf("a test of %s imports %s: %s", short(p.ImportPath), short(to), why)
			}
		}
	}
}

// TestBreach makes sure that TestArrows can fail.
func TestBreach(t *testing.T) {
	tests := []struct {
		from, to string
		test     bool
		allowed  bool
	}{
		{"cmd/internal/daemon", "encap/engine", false, true},
		{"cmd/internal/daemon", "tun", false, true},
		{"cmd/sixin4", "bench", false, true},
		{"cmd/sixin4", "tun/nstest", false, true},
		{"tun", "encap/packet", false, true},
		{"tun", "encap/packet/gate", false, true},
		{"tun", "encap", false, false},
		{"tun", "encap", true, false},
		{"tun/ifcfg", "encap/engine", false, false},
		{"encap/engine", "encap", false, true},
		{"encap/engine", "tun", false, false},
		{"encap/engine", "tun", true, false},
		{"encap/engine", "tun/nstest", true, true},
		{"encap/engine", "tun/nstest", false, false},
		{"encap/engine", "encap/packettest", true, true},
		{"encap/engine", "encap/packettest", false, false},
		{"encap/packet", "encap", false, false},
		{"encap/packet", "encap/packet/gate", false, true},
		{"tsp", "encap", false, false},
		{"tsp/client", "tsp", false, true},
		{"encap", "tsp", false, false},
		{"bench", "encap", false, true},
		{"bench", "tsp/tsptest", false, true},
		{"cmd/internal/daemon", "tsp/tsptest", false, false},
		{"cmd/sixin4", "cmd/internal/programtest", true, true},
		{"cmd/sixin4", "cmd/internal/programtest", false, false},
		{"bench", "cmd/internal/control", false, false},
		{"encap", "bench", false, false},
		{"encap", "cmd/internal/exit", true, false},
	}
	for _, tt := range tests {
		why := breach(path.Join(module, tt.from), path.Join(module, tt.to), tt.test)
		if allowed := why == ""; allowed != tt.allowed {
			t.Errorf("%s to %s, test %v: allowed %v, want %v (%s)", tt.from, tt.to, tt.test, allowed, tt.allowed, why)
		}
	}
}

// mayImport are the modules of others that each package may use, on any system.
// A package that is not here may use none.
var mayImport = map[string][]string{
	"encap/packet/gate":                  {"golang.org/x/sys"},
	"encap/keepalive":                    {"golang.org/x/sys"},
	"encap/wire":                         {"golang.org/x/net", "golang.org/x/sys"},
	"encap/engine":                       {"github.com/gaissmai/bart"},
	"encap/kernelpath":                   {"github.com/cilium/ebpf", "golang.org/x/sys"},
	"tun":                                {"golang.zx2c4.com/wireguard", "golang.org/x/sys"},
	"tun/ifcfg":                          {"github.com/vishvananda/netlink", "golang.org/x/sys"},
	"tun/netstack":                       {"gvisor.dev/gvisor"},
	"tun/nstest":                         {"github.com/vishvananda/netlink", "golang.org/x/sys"},
	"tsp/sasl":                           {"github.com/xdg-go/scram"},
	"tsp/broker/account":                 {"golang.org/x/sys"},
	"tsp/broker/store/internal/sqlstore": {"github.com/pressly/goose/v3"},
	"tsp/broker/store/sqlite":            {"github.com/pressly/goose/v3", "modernc.org/sqlite"},
	"tsp/broker/store/postgres":          {"github.com/pressly/goose/v3", "github.com/jackc/pgx/v5"},
	"tsp/broker/web":                     {"github.com/wneessen/go-mail"},
	"cmd/sixin4":                         {"github.com/spf13/cobra"},
	"cmd/tspd":                           {"github.com/spf13/cobra"},
	"cmd/internal/cli":                   {"github.com/spf13/cobra", "github.com/spf13/pflag"},
	"cmd/internal/config":                {"github.com/pelletier/go-toml/v2"},
	"cmd/internal/control":               {"golang.org/x/sys"},
	"cmd/internal/daemon":                {"golang.org/x/sys"},
	"cmd/internal/metrics":               {"golang.org/x/net", "golang.org/x/sys"},
	"cmd/internal/programtest":           {"github.com/prometheus/client_golang", "github.com/spf13/cobra"}, // lints what the programs serve
	"cmd/internal/proxy":                 {"github.com/things-go/go-socks5", "golang.org/x/sys"},
	"cmd/internal/state":                 {"golang.org/x/sys"},
	"bench":                              {"golang.org/x/sys"},
	"bench/child":                        {"golang.org/x/sys"},
	"bench/load":                         {"golang.org/x/net", "golang.org/x/sys"},
	"bench/naive":                        {"golang.org/x/sys"},
	"bench/traffic":                      {"golang.org/x/net", "golang.org/x/sys"},
	"bench/wireguard":                    {"golang.zx2c4.com/wireguard"},
}

func TestModulesOfOthers(t *testing.T) {
	for _, goos := range []string{"linux", "darwin"} {
		for _, p := range packages(t, goos) {
			for _, to := range p.Imports {
				first, _, _ := strings.Cut(to, "/")
				if ours(to) || !strings.Contains(first, ".") { // the standard library has no dot there
					continue
				}
				if !slices.ContainsFunc(mayImport[short(p.ImportPath)], func(m string) bool {
					return to == m || strings.HasPrefix(to, m+"/")
				}) {
					t.Errorf("%s may not import %s", short(p.ImportPath), to)
				}
			}
		}
	}
}

// TestPureBytes: package encap does no input or output, and knows no time.
func TestPureBytes(t *testing.T) {
	forbidden := []string{"os", "net", "time", "syscall", "log", "log/slog", "io", "context"}
	for _, p := range packages(t, "linux") {
		if p.ImportPath != module+"/encap" && p.ImportPath != leaf {
			continue
		}
		for _, to := range p.Imports {
			if slices.Contains(forbidden, to) {
				t.Errorf("%s imports %s", short(p.ImportPath), to)
			}
		}
	}
}

// TestBuildsElsewhere also compiles the tests.
func TestBuildsElsewhere(t *testing.T) {
	goCommand(t, []string{"GOOS=darwin", "CGO_ENABLED=0"}, "vet", "./...")
}
