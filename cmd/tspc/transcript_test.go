package main

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/daemon"
	"sixin4/cmd/internal/hook"
	"sixin4/encap/keepalive"
	"sixin4/tsp"
	"sixin4/tsp/client"
)

// golden is how the tutorial of Freenet6 shows the program, but for the line that says
// that it stays.
const golden = `tspc - Tunnel Server Protocol Client
Loading configuration file
Connecting to server
Using [67.69.185.115] as source IPv4 address.
Send request
Process response from server
TSP_HOST_TYPE host
TSP_TUNNEL_INTERFACE sit1
TSP_HOME_INTERFACE
TSP_CLIENT_ADDRESS_IPV4 67.69.185.115
TSP_CLIENT_ADDRESS_IPV6 3ffe:0bc0:8000:0000:0000:0000:0000:1bf9
TSP_SERVER_ADDRESS_IPV4 206.123.31.115
TSP_SERVER_ADDRESS_IPV6 3ffe:0bc0:8000:0000:0000:0000:0000:1bf8
TSP_TUNNEL_PREFIXLEN 128
TSP_VERBOSE 1
TSP_HOME_DIR /usr/local/tsp
--- Start of configuration script. ---
Script: linux.sh
sit1 setup
Setting up link to 206.123.31.115
This host is: 3ffe:0bc0:8000:0000:0000:0000:0000:1bf9/128
Adding default route
--- End of configuration script. ---
Tunnel is up, staying in the foreground
Exiting with return code : 0 (0 = no error)
`

var example = &tsp.Tunnel{
	Type:    tsp.V6V4,
	Server4: netip.MustParseAddr("206.123.31.115"), Server6: netip.MustParseAddr("3ffe:bc0:8000::1bf8"),
	Client4: netip.MustParseAddr("67.69.185.115"), Client6: netip.MustParseAddr("3ffe:bc0:8000::1bf9"),
}

// dialogue is a daemon that tells what it is given and then runs until it is stopped.
func dialogue(stop func(), tell func(daemon.Teller, daemon.Env), err error) func(context.Context, config.Connect, daemon.Env) error {
	return func(ctx context.Context, _ config.Connect, env daemon.Env) error {
		tell(env.Teller, env)
		if err == nil {
			stop()
		}
		return err
	}
}

// negotiate tells of a negotiation that goes well.
func negotiate(script string, lines ...string) func(daemon.Teller, daemon.Env) {
	return func(t daemon.Teller, env daemon.Env) {
		t.Event(client.Connecting{Server: client.Server{Host: "192.0.2.1"}})
		t.Event(client.Connected{Local: example.Client4})
		t.Event(client.Requesting{})
		t.Event(client.Offered{Tunnel: example})
		vars, err := hook.Params{
			Operation: hook.Create, Verbose: env.Verbose, HomeDir: "/usr/local/tsp", Interface: "sit1", Tunnel: example,
		}.Variables()
		if err != nil {
			panic(err)
		}
		t.Setup(vars, script)
		for _, l := range lines {
			t.Line(l)
		}
		t.Done()
		t.Event(client.Up{})
	}
}

// tspc runs a command line with a daemon that tells.
func tspc(t *testing.T, tell func(daemon.Teller, daemon.Env), err error, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tspc.conf")
	if err := os.WriteFile(file, []byte("server=192.0.2.1\nauth_method=anonymous\ntemplate=linux\nif_tunnel_v6v4=sit1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs bytes.Buffer
	p := process{stdout: &out, stderr: &errs, connect: dialogue(cancel, tell, err)}
	status = p.run(ctx, append(args, "-f", file))
	return status, out.String(), errs.String()
}

func TestTranscript(t *testing.T) {
	status, stdout, stderr := tspc(t, negotiate(""), nil, "-v")
	if status != 0 || stdout != golden || stderr != "" {
		t.Errorf("exit status %d, %s, standard output:\n%s\nwant\n%s", status, stderr, stdout, golden)
	}
}

// TestTranscriptOfScript has what a script prints where our own lines are otherwise.
func TestTranscriptOfScript(t *testing.T) {
	own := "Script: linux.sh\nsit1 setup\nSetting up link to 206.123.31.115\n" +
		"This host is: 3ffe:0bc0:8000:0000:0000:0000:0000:1bf9/128\nAdding default route\n"
	want := strings.Replace(golden, own, "Script: freebsd.sh\nhello\n", 1)
	for name, prints := range map[string][]string{
		"plain":             {"hello"},
		"with its own ends": {"--- Start of configuration script. ---", "Script:  freebsd.sh", "hello", "--- End of configuration script. ---"},
	} {
		if _, stdout, _ := tspc(t, negotiate("/usr/local/tsp/template/freebsd.sh", prints...), nil, "-v"); stdout != want {
			t.Errorf("%s: standard output:\n%s\nwant\n%s", name, stdout, want)
		}
	}
}

func TestTranscriptQuiet(t *testing.T) {
	status, stdout, stderr := tspc(t, negotiate("/x/linux.sh", "hello"), nil)
	want := "tspc - Tunnel Server Protocol Client\nTunnel is up, staying in the foreground\n" +
		"Exiting with return code : 0 (0 = no error)\n"
	if status != 0 || stdout != want || stderr != "" {
		t.Errorf("exit status %d, %s, standard output:\n%s\nwant\n%s", status, stderr, stdout, want)
	}
}

// TestEvents goes through what comes later, and the exit status of a stop at each point.
func TestEvents(t *testing.T) {
	busy := &client.Error{Stage: client.Hello, Server: "192.0.2.1", Err: &tsp.Error{Code: tsp.Busy, Text: "later"}}
	dead := &client.Error{Stage: client.Keepalive, Server: "192.0.2.1", Err: keepalive.ErrDead}
	old, now := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	up := client.Up{}
	for _, tt := range []struct {
		name   string
		events []client.Event
		want   string
		status int
	}{
		{"nothing", nil, "", 0},
		{"failed", []client.Event{client.Failed{Err: busy, RetryIn: 1500 * time.Millisecond}},
			"Connection failed: 192.0.2.1: status 530 \"later\"; retrying in 2 seconds\n", 12},
		{"failed, soon again", []client.Event{client.Failed{Err: busy, RetryIn: time.Second}},
			"Connection failed: 192.0.2.1: status 530 \"later\"; retrying in 1 second\n", 12},
		{"up in the end", []client.Event{client.Failed{Err: busy, RetryIn: time.Second}, up},
			"Connection failed: 192.0.2.1: status 530 \"later\"; retrying in 1 second\nTunnel is up, staying in the foreground\n", 0},
		{"redirected", []client.Event{client.Redirected{Brokers: []tsp.Broker{{Addr: old}, {Name: "b.example"}}}, up},
			"Redirected to 192.0.2.2, b.example\nTunnel is up, staying in the foreground\n", 0},
		{"renewed", []client.Event{up, client.Renewing{}, up},
			"Tunnel is up, staying in the foreground\nRenewing the tunnel\nTunnel is renewed\n", 0},
		{"not renewed", []client.Event{up, client.Renewing{}, client.Failed{Err: busy, RetryIn: 30 * time.Second}},
			"Tunnel is up, staying in the foreground\nRenewing the tunnel\n" +
				"Renewal failed: 192.0.2.1: status 530 \"later\"; retrying in 30 seconds\n", 0},
		{"lost", []client.Event{up, client.Lost{Err: dead}},
			"Tunnel is up, staying in the foreground\nTunnel is lost: 192.0.2.1: the far end does not answer\n", 21},
		{"lost and busy", []client.Event{up, client.Lost{Err: dead}, client.Failed{Err: busy, RetryIn: time.Second}},
			"Tunnel is up, staying in the foreground\nTunnel is lost: 192.0.2.1: the far end does not answer\n" +
				"Connection failed: 192.0.2.1: status 530 \"later\"; retrying in 1 second\n", 12},
		{"another address", []client.Event{up, client.AddressChanged{Old: old, New: now}, up},
			"Tunnel is up, staying in the foreground\nSource IPv4 address changed from 192.0.2.2 to 192.0.2.3\n" +
				"Tunnel is up, staying in the foreground\n", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, _ := tspc(t, func(teller daemon.Teller, _ daemon.Env) {
				for _, e := range tt.events {
					teller.Event(e)
				}
			}, nil, "-v")
			_, stdout, _ = strings.Cut(stdout, "Loading configuration file\n")
			stdout, _, _ = strings.Cut(stdout, "Exiting ")
			if status != tt.status || stdout != tt.want {
				t.Errorf("exit status %d, want %d; standard output:\n%s\nwant\n%s", status, tt.status, stdout, tt.want)
			}
		})
	}
}

// TestGivesUp: the error that ends it is a line on standard error.
func TestGivesUp(t *testing.T) {
	refused := &client.Error{Stage: client.Authenticate, Server: "192.0.2.1", Err: &tsp.Error{Code: tsp.AuthFailed}}
	for _, tt := range []struct {
		name   string
		err    error
		stderr string
		status int
	}{
		{"refused", refused, "tspc: 192.0.2.1: status 300 Authentication failed\n", statusRefused}, // an anonymous user
		{"two lines", errors.Join(errors.New("one"), errors.New("two")), "tspc: one\ntspc: two\n", statusSetup},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := tspc(t, func(daemon.Teller, daemon.Env) {}, tt.err, "-b")
			if status != tt.status || stderr != tt.stderr || !strings.HasSuffix(stdout, "(0 = no error)\n") {
				t.Errorf("exit status %d, want %d; standard error %q, want %q; standard output\n%s", status, tt.status, stderr, tt.stderr, stdout)
			}
		})
	}
}

// TestTrace: nothing from the broker gets to the terminal as it is.
func TestTrace(t *testing.T) {
	trace := func(_ daemon.Teller, env daemon.Env) {
		if env.Trace == nil {
			return
		}
		env.Trace(true, []byte("VERSION=2.0.2\r\n"))
		env.Trace(false, []byte("Content-length: 9\r\n<a>\x1b[2J</a>\n\xff\u202e%d"))
	}
	for _, tt := range []struct{ arg, want string }{
		{"-vv", ""},
		{"-vvv", "C: VERSION=2.0.2\nS: Content-length: 9\nS: <a>\\x1b[2J</a>\nS: \ufffd\\u202e%d\n"},
	} {
		_, stdout, _ := tspc(t, trace, nil, tt.arg)
		_, stdout, _ = strings.Cut(stdout, "Loading configuration file\n")
		stdout, _, _ = strings.Cut(stdout, "Exiting ")
		if stdout != tt.want {
			t.Errorf("%s: got %q, want %q", tt.arg, stdout, tt.want)
		}
	}
}

// TestEnvironment is about what the daemon is told.
func TestEnvironment(t *testing.T) {
	for _, tt := range []struct {
		args    string
		giveUp  client.GiveUp
		verbose int
	}{
		{"", client.Never, 0},
		{"-b", client.Always, 0},
		{"-vv", client.Never, 2},
		{"-vvvvb", client.Always, 3},
	} {
		tspc(t, func(_ daemon.Teller, env daemon.Env) {
			if env.GiveUp != tt.giveUp || env.Verbose != tt.verbose || !env.Classic || env.Out == nil || env.Logger == nil {
				t.Errorf("%q: %+v", tt.args, env.Negotiation)
			}
		}, nil, strings.Fields(tt.args)...)
	}
}
