package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sixin4/tsp/tsptest"
)

// script makes a template script beside a file that asks for it.
func script(t *testing.T, text string) (file string) {
	t.Helper()
	file = anonymous(t, "template=linux", "keepalive=no") // its requests need the address, which not every script gives
	dir := filepath.Join(filepath.Dir(file), "template")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "linux.sh"), []byte(text), 0o644))
	return file
}

// TestTemplate: the script gets the variables, and its lines are shown.
func TestTemplate(t *testing.T) {
	n := newNetwork(t)
	n.broker("192.0.2.1", tsptest.Config{})
	before := n.dump()
	file := script(t, "env | sort >$TSP_HOME_DIR/$TSP_OPERATION\necho the script says $TSP_TUNNEL_MODE\n")
	p := n.tspc(file, "-vv")
	p.awaitUp()
	n.has("link sit1 tuntap mtu 1280 up")
	p.signal(syscall.SIGTERM)
	p.ends(statusFine)
	n.sameAs(before)
	if want := "Script: linux.sh\nthe script says v6v4\n--- End of configuration script. ---\n"; !strings.Contains(p.stdout.String(), want) {
		t.Errorf("no %q in\n%s", want, &p.stdout)
	}
	dir := filepath.Dir(file)
	for _, operation := range []string{"TSP_TUNNEL_CREATION", "TSP_TUNNEL_TEARDOWN"} {
		all, err := os.ReadFile(filepath.Join(dir, operation))
		must(t, err)
		want := `TSP_CLIENT_ADDRESS_IPV4=192.0.2.2
TSP_CLIENT_ADDRESS_IPV6=2001:0db8:00aa:0000:0000:0000:0000:0002
TSP_CLIENT_DNS_ADDRESS_IPV6=2001:0db8:0000:0000:0000:0000:0000:0053
TSP_HOME_DIR=` + dir + `
TSP_HOME_INTERFACE=
TSP_HOST_TYPE=host
TSP_OPERATION=` + operation + `
TSP_SERVER_ADDRESS_IPV4=192.0.2.1
TSP_SERVER_ADDRESS_IPV6=2001:0db8:00aa:0000:0000:0000:0000:0001
TSP_TUNNEL_INTERFACE=sit1
TSP_TUNNEL_MODE=v6v4
TSP_TUNNEL_PREFIXLEN=128
TSP_VERBOSE=2
`
		var got strings.Builder
		for line := range strings.Lines(string(all)) {
			if strings.HasPrefix(line, "TSP_") {
				got.WriteString(line)
			}
		}
		if got.String() != want {
			t.Errorf("%s:\n%s\nwant\n%s", operation, got.String(), want)
		}
	}
}

// TestTemplateFails: what the script has begun is taken down by it.
func TestTemplateFails(t *testing.T) {
	n := newNetwork(t)
	n.broker("192.0.2.1", tsptest.Config{})
	before := n.dump()
	file := script(t, "echo $TSP_OPERATION >>$TSP_HOME_DIR/operations\ntest $TSP_OPERATION = TSP_TUNNEL_TEARDOWN\n")
	p := n.tspc(file, "-b")
	p.ends(statusSetup)
	if want := "linux.sh: exit status 1"; !strings.Contains(p.stderr.String(), want) {
		t.Errorf("no %q in %s", want, &p.stderr)
	}
	got, err := os.ReadFile(filepath.Join(filepath.Dir(file), "operations"))
	if err != nil || string(got) != "TSP_TUNNEL_CREATION\nTSP_TUNNEL_TEARDOWN\n" {
		t.Errorf("operations %q, %v", got, err)
	}
	n.sameAs(before)
}

// TestKilledAndStartedAgain: what a script did outlives the process, until the next one
// starts.
func TestKilledAndStartedAgain(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	n := newNetwork(t)
	n.broker("192.0.2.1", tsptest.Config{})
	before := n.dump()
	file := script(t, "echo $TSP_OPERATION >>$TSP_HOME_DIR/operations\n"+
		roleVariable+"=template GORACE=atexit_sleep_ms=0 exec '"+self+"'\n")
	const mark = "address 2001:db8:77::1/128 "
	p := n.tspc(file, "-v")
	p.awaitUp()
	n.has("link sit1 tuntap mtu 1280 up", "address 2001:db8:aa::2/128 ", "route 2000::/3 ", mark)
	p.signal(syscall.SIGKILL)
	p.code()
	n.has(mark)
	p = n.tspc(file, "-v")
	p.awaitUp()
	n.has(mark)
	p.signal(syscall.SIGHUP)
	p.ends(statusFine)
	n.sameAs(before)
	got, err := os.ReadFile(filepath.Join(filepath.Dir(file), "operations"))
	if want := strings.Repeat("TSP_TUNNEL_CREATION\nTSP_TUNNEL_TEARDOWN\n", 2); err != nil || string(got) != want {
		t.Errorf("operations %q, %v; want %q", got, err, want)
	}
	if left, _ := filepath.Glob(filepath.Join(n.run, "sixin4", "*")); len(left) > 0 {
		t.Errorf("left in /run: %q", left)
	}
}
