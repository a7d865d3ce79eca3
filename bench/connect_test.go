package bench

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sixin4/tun/nstest"
)

func TestConnectConfig(t *testing.T) {
	for _, test := range []struct {
		name   string
		cfg    ConnectConfig
		rounds int // 0: an error
	}{
		{"default", ConnectConfig{}, 9},
		{"quick", ConnectConfig{Quick: true}, 3},
		{"as told", ConnectConfig{Quick: true, Rounds: 5}, 5},
		{"less than none", ConnectConfig{Rounds: -1}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := test.cfg.withDefaults()
			if (err != nil) != (test.rounds == 0) || err == nil && (c.Rounds != test.rounds || c.Progress == nil) {
				t.Errorf("got %+v, %v, want %d rounds", c, err, test.rounds)
			}
		})
	}
	if _, err := Connect(t.Context(), ConnectConfig{Rounds: -1}); err == nil || !strings.Contains(err.Error(), "-1 rounds") {
		t.Errorf("error %v, want one with the number of rounds", err)
	}
}

// quickConnect is one round with the program at path, in a directory for temporary
// files that is the test's own.
func quickConnect(ctx context.Context, t *testing.T, path string) (Report, error) {
	t.Helper()
	nstest.Need(t)
	t.Setenv("TMPDIR", t.TempDir())
	cfg, err := ConnectConfig{Rounds: 1}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	nothingLeft(t)
	return connectOf(ctx, cfg, path)
}

// nothingLeft fails the test when there are, at its end, processes, namespaces, files
// or goroutines that are not there now.
func nothingLeft(t *testing.T) {
	t.Helper()
	before, running := namespaces(t), goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
			t.Errorf("a child process is left (%d, %v)", pid, err)
		}
		// Before the next, as it gives those that saw a process end time to put their namespace back.
		goleak.VerifyNone(t, running)
		if after := namespaces(t); after > before {
			t.Errorf("%d namespaces are open, %d before", after, before)
		}
		if left, err := filepath.Glob(filepath.Join(os.TempDir(), "*")); err != nil || len(left) > 0 {
			t.Errorf("files are left: %v, %v", left, err)
		}
	})
}

// namespaces counts those that this process keeps open.
func namespaces(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("list open files: %v, %v", files, err)
	}
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && strings.HasPrefix(to, "net:[") {
			n++
		}
	}
	return n
}

func TestConnectMeasuresAll(t *testing.T) {
	nstest.Need(t)
	r, err := quickConnect(t.Context(), t, program(t))
	if err != nil {
		t.Fatal(err)
	}
	rows := r.Tables[0].Rows
	if len(rows) != len(logins)+1 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows[:len(logins)] {
		for i, cell := range row.Cells {
			if cell.Figure == nil || cell.Figure.Median < 0 || cell.Figure.Median == 0 && i != lastSpan || len(cell.Figure.Rounds) != 1 {
				t.Errorf("%s, %s: no figure", row.Name, spans[i].name)
			}
		}
	}
	if bare := rows[len(logins)].Cells[readySpan].Figure; bare == nil || bare.Median <= 0 {
		t.Error("no figure for the program alone")
	}
}

// script is a program that is ready at once as the far end, and fails otherwise.
func script(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sixin4")
	const text = "#!/bin/sh\n[ $1 = up ] && echo ready && exec sleep 1000\necho $1 is broken >&2\nexit 3\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConnectSaysWhyItFails(t *testing.T) {
	_, err := quickConnect(t.Context(), t, script(t))
	if err == nil || !strings.Contains(err.Error(), "connect is broken") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v, want the status and what it said", err)
	}
}

func TestConnectStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := quickConnect(ctx, t, script(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was cancelled", err)
	}
}

func TestConnectReport(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	c := &connects{cfg: ConnectConfig{Rounds: 2}, samples: make([][]moments, len(logins)), bare: []float64{5, 7}}
	for i := range logins {
		c.samples[i] = []moments{
			{start: at(0), hello: at(10), accept: at(12), ready: at(20), echo: at(19)},
			{start: at(100), hello: at(112), accept: at(116), ready: at(130), echo: at(131)},
		}
	}
	var b strings.Builder
	if err := c.report().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const want = `
                        start to VERSION  VERSION to accept  accept to ready line  start to ready line  start to answered echo
TCP, anonymous      ms  11.0 (10.0-12.0)  3.00 (2.00-4.00)   11.0 (8.00-14.0)      25.0 (20.0-30.0)     25.0 (19.0-31.0)
`
	if !strings.Contains(b.String(), want) || !strings.Contains(b.String(), "6.00 (5.00-7.00)") {
		t.Errorf("got:\n%s\nwant in it:\n%s", b.String(), want)
	}
}

func TestEchoAnswers(t *testing.T) {
	e := &echoSocket{to: netip.IPv6Loopback(), cookie: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	changed := func(at int, to byte) []byte {
		m := e.message(513)
		m[0] = echoReply
		m[at] = to
		return m
	}
	for _, test := range []struct {
		name string
		m    []byte
		want bool
	}{
		{"its reply", changed(0, echoReply), true},
		{"the reply to a request before", changed(7, 0), true},
		{"the request", e.message(513), false},
		{"somebody else's", changed(15, 9), false},
		{"no payload", changed(0, echoReply)[:echoHeader], false},
		{"nothing", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := e.answers(test.m); got != test.want {
				t.Errorf("%x: %v", test.m, got)
			}
		})
	}
}

// TestEchoAnswered: requests go out before there is a way to the host, which is no
// error, and the first one that gets through is answered.
func TestEchoAnswered(t *testing.T) {
	ns := nstest.Open(t)
	to := netip.MustParseAddr("2001:db8::1")
	var e *echoSocket
	if err := ns.Do(func() (err error) {
		e, err = openEcho(to)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer e.close()
	if err := e.send(e.message(0)); err != nil {
		t.Fatalf("without a way: %v", err)
	}
	start := time.Now()
	if err := ns.AddAddr("lo", to.String()+"/128"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	if at, err := e.answered(ctx); err != nil || at.Before(start) {
		t.Errorf("answered at %v, %v", at, err)
	}
	cancel()
	if _, err := e.answered(ctx); !errors.Is(err, errNoEcho) {
		t.Errorf("error %v after its time", err)
	}
}
