// Package programtest is what the tests of the programs have in common: how they run
// themselves as another process, and what holds for the help texts and the metrics of all.
package programtest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/spf13/cobra"

	"sixin4/cmd/internal/exit"
	"sixin4/tun/nstest"
)

// Environ is the environment of a child of a test, with the variables given as NAME=value.
// It has no journal, whatever runs the test.
func Environ(more ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "JOURNAL_STREAM=")
	})
	if os.Getenv("GORACE") == "" {
		env = append(env, "GORACE=atexit_sleep_ms=0") // a second for each process otherwise
	}
	return append(env, more...)
}

// Pair makes two hosts on one link, closed when the test ends. The link has no
// IPv6: its addresses would come and go by themselves while a test compares.
func Pair(t testing.TB) *nstest.Topology {
	t.Helper()
	nstest.Need(t)
	topo, err := nstest.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topo.Close(); err != nil {
			t.Error(err)
		}
	})
	for ns, link := range map[*nstest.NS]string{topo.A: topo.LinkA, topo.B: topo.LinkB} {
		if err := ns.Sysctl("net/ipv6/conf/"+link+"/disable_ipv6", "1"); err != nil {
			t.Fatal(err)
		}
	}
	return topo
}

// Help asks a command and all below it for help, by run, which runs one command line:
// each has examples, which are about itself.
func Help(t *testing.T, cmd *cobra.Command, run func(args ...string) (code int, stdout, stderr string)) {
	t.Helper()
	if cmd.Runnable() {
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		code, stdout, stderr := run(args...)
		if code != exit.OK || stderr != "" {
			t.Errorf("%v: %d, %q", args, code, stderr)
		}
		if !strings.Contains(stdout, "\nExamples:\n") || !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%v shows no examples:\n%s", args, stdout)
		}
	}
	for _, c := range cmd.Commands() {
		Help(t, c, run)
	}
}

// Get asks the HTTP server at an address in a namespace for a path, and returns status
// and text.
func Get(t testing.TB, ns *nstest.NS, at, path string) (code int, text string) {
	t.Helper()
	err := ns.Do(func() error {
		c, err := net.Dial("tcp", at)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET "+path+" HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		code, text = resp.StatusCode, string(b)
		return err
	})
	if err != nil {
		t.Fatalf("get %s: %v", path, err)
	}
	return code, text
}

// Metrics gets the page of metrics, which must have no fault, from an address in a
// namespace.
func Metrics(t testing.TB, ns *nstest.NS, at string) string {
	t.Helper()
	code, page := Get(t, ns, at, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("metrics: %d, %s", code, page)
	}
	problems, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil || len(problems) != 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
	return page
}

// HasLines wants lines on a page of metrics; each may be the beginning of one.
func HasLines(t testing.TB, page string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(page, "\n"+line) {
			t.Errorf("no %q in\n%s", line, page)
		}
	}
}
