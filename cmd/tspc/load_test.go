package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/daemon"
)

// hostFile is a configuration with which options can be tried.
const hostFile = "server=192.0.2.1\nauth_method=anonymous\nif_tunnel_v6v4=sit1\nif_tunnel_v6udpv4=tun\nretry_delay_max=60\n"

const (
	udpFile    = hostFile + "tunnel_mode=v6udpv4\n"
	routerFile = hostFile + "host_type=router\nif_prefix=eth1\n"
)

// write makes a file of the test and returns its path.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// loaded loads a file with options.
func loaded(t *testing.T, text, args string) (settings, error) {
	t.Helper()
	o, err := parseOptions(strings.Fields(args))
	if err != nil {
		t.Fatal(err)
	}
	o.file = write(t, "tspc.conf", text)
	return load(o, config.Secret{})
}

func TestOverrides(t *testing.T) {
	for _, tt := range []struct {
		name, text, args string
		iface            string
		local            string
		lan              string
		delay, most      time.Duration
	}{
		{"nothing", hostFile, "", "sit1", "invalid IP", "", 30 * time.Second, time.Minute},
		{"interface", hostFile, "-i six0 -u udp0", "six0", "invalid IP", "", 30 * time.Second, time.Minute},
		{"interface of v6udpv4", udpFile, "-i six0 -u udp0", "udp0", "invalid IP", "", 30 * time.Second, time.Minute},
		{"no interface of v6udpv4", udpFile, "-i six0", "tun", "invalid IP", "", 30 * time.Second, time.Minute},
		{"address", hostFile, "-s 192.0.2.7", "sit1", "192.0.2.7", "", 30 * time.Second, time.Minute},
		{"address, automatic", hostFile + "client_v4=192.0.2.7\n", "-s auto", "sit1", "invalid IP", "", 30 * time.Second, time.Minute},
		{"no LAN of a host", hostFile, "-s eth7", "sit1", "invalid IP", "", 30 * time.Second, time.Minute},
		{"LAN", routerFile, "-s eth7", "sit1", "invalid IP", "eth7", 30 * time.Second, time.Minute},
		{"LAN that the file has not", hostFile + "host_type=router\n", "-s eth7", "sit1", "invalid IP", "eth7", 30 * time.Second, time.Minute},
		{"delay", hostFile, "-r 5", "sit1", "invalid IP", "", 5 * time.Second, time.Minute},
		{"delay beyond the maximum", hostFile, "-r 600", "sit1", "invalid IP", "", 10 * time.Minute, 10 * time.Minute},
		{"TOML", "server = \"192.0.2.1\"\nname = \"toml0\"\nonce = true\n", "-i six0", "six0", "invalid IP", "", 30 * time.Second, 5 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := loaded(t, tt.text, tt.args)
			if err != nil {
				t.Fatal(err)
			}
			if got.Name != tt.iface || got.Local.String() != tt.local || got.LAN != tt.lan ||
				got.RetryDelay != tt.delay || got.RetryMax != tt.most || got.Once {
				t.Errorf("got %+v", got.Connect)
			}
			if got.Router != (tt.lan != "") {
				t.Errorf("router: %v", got.Router)
			}
		})
	}
}

func TestConfigurationErrors(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, text, args string
		want             string
		status           int
	}{
		{"a wrong value", "server=192.0.2.1\nauth_method=magic\n", "", "tspc.conf:2: auth_method = \"magic\": ", statusConfiguration},
		{"no server", "auth_method=anonymous\n", "", "server", statusConfiguration},
		{"a wrong interface", hostFile, "-i a/b", "tspc: -i: name = \"a/b\": ", statusConfiguration},
		{"a wrong -s", hostFile, "-s 192.0.2.300/24", "tspc: -s \"192.0.2.300/24\": neither an IPv4 address", statusConfiguration},
		{"an IPv6 address", hostFile, "-s 2001:db8::1", "tspc: -s: local = \"2001:db8::1\": ", statusConfiguration},
		{"a router without a LAN", hostFile + "host_type=router\n", "", "host_type = \"router\": a router needs if_prefix", statusConfiguration},
		{"last_server is a directory", hostFile + "always_use_same_server=yes\nlast_server=" + dir + "\n", "",
			"tspc: last_server: read " + dir + ": is a directory\n", statusLastServer},
		{"the log is a directory", hostFile + "log_file=1\nlog_filename=" + dir + "\n", "",
			"tspc: log_filename: open " + dir + ": is a directory\n", statusLog},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			p := process{stdout: &out, stderr: &errs, connect: func(context.Context, config.Connect, daemon.Env) error {
				t.Error("the daemon was called")
				return nil
			}}
			args := append(strings.Fields(tt.args), "-f", write(t, "tspc.conf", tt.text))
			if got := p.run(t.Context(), args); got != tt.status {
				t.Errorf("exit status %d, want %d", got, tt.status)
			}
			if got := errs.String(); !strings.Contains(got, tt.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("standard error %q, want a line with %q", got, tt.want)
			}
		})
	}
}

func TestUsualFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	o := options{}
	_, err := load(o, config.Secret{})
	want := "no configuration file: there is neither tspc.conf nor gogoc.conf here (-f FILE names another)"
	if err == nil || err.Error() != want || statusOf(err, situation{}) != statusConfiguration {
		t.Errorf("without a file: %v, want %s", err, want)
	}
	for _, name := range []string{"gogoc.conf", "tspc.conf"} { // each wins over the ones before
		text := "server=192.0.2.1\nauth_method=anonymous\nif_tunnel_v6v4=" + name[:4] + "\n"
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := load(o, config.Secret{})
		if err != nil || got.Name != name[:4] {
			t.Errorf("%s: interface %q, %v", name, got.Name, err)
		}
	}
	o.file = "none.conf"
	if _, err = load(o, config.Secret{}); err == nil || !strings.Contains(err.Error(), "none.conf: no such file") {
		t.Errorf("-f none.conf: %v", err)
	}
}

// TestAnnounced is about what is said before anything is done.
func TestAnnounced(t *testing.T) {
	for _, tt := range []struct{ name, text, args, want string }{
		{"an unknown key", hostFile + "quux=1\n", "", `unknown key \"quux\" ignored`},
		{"idle keys", hostFile + "log_rotation=yes\n", "", "these keys have no meaning here: log_rotation"},
		{"-y", hostFile, "-y", "-y has no meaning here"},
		{"-s of a host", hostFile, "-s eth7", "-s eth7 has no meaning for host_type=host"},
		{"router without a script", routerFile, "", "sends no router advertisements"},
		{"once", "server = \"192.0.2.1\"\nonce = true\n", "", "once has no meaning for tspc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			p := process{stdout: &out, stderr: &errs, connect: func(context.Context, config.Connect, daemon.Env) error { return nil }}
			if got := p.run(t.Context(), append(strings.Fields(tt.args), "-f", write(t, "tspc.conf", tt.text))); got != statusFine {
				t.Errorf("exit status %d: %s", got, errs.String())
			}
			if got := errs.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, tt.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("standard error %q, want one line with %q", got, tt.want)
			}
		})
	}
}
