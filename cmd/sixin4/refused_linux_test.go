package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
)

// TestRefused is about what only the operating system knows is wrong. Nothing is
// changed, and the last line of standard error says why.
func TestRefused(t *testing.T) {
	topo := pair(t)
	must(t, topo.A.AddAddr(topo.LinkA, "192.0.2.11/24"))
	before := dump(t, topo.A)
	file := filepath.Join(t.TempDir(), "up.toml")
	must(t, os.WriteFile(file, []byte("remote = \"192.0.2.2\"\nname = \"a0\"\n"), 0o600))
	const isLocal = "is the local address of this tunnel; the peer is the other end, an address of another host"
	const isHere = "is an address of this host; the far end is another host (if both ends are to be here, give --local)"
	const taken = "an interface of this name exists; choose another, or none for the first free of sixin4-0, sixin4-1, ..."
	tests := []struct {
		name string
		role string
		args string
		code int
		want string
	}{
		{"interface exists", "main", "--remote 192.0.2.2 --name a0", exit.Usage, "--name a0: " + taken},
		{"interface exists, from the file", "main", "--config " + file, exit.Config, file + `:2: name = "a0": ` + taken},
		{"peer is this host", "main", "--remote 192.0.2.1", exit.Usage, "--remote 192.0.2.1: " + isHere},
		{"peer is the local address", "main", "--remote 192.0.2.1 --local 192.0.2.1", exit.Usage, "--remote 192.0.2.1: " + isLocal},
		{"peer is another address of this host", "main", "--remote 192.0.2.11", exit.Usage, "--remote 192.0.2.11: " + isHere},
		{"hub's peer is this host", "main", "--peer 192.0.2.2=2001:db8:1::/48 --peer 192.0.2.1=2001:db8:2::/48", exit.Usage,
			"--peer 192.0.2.1=2001:db8:2::/48: " + isLocal},
		{"hub's first peer is this host", "main", "--peer 192.0.2.11=2001:db8:2::/48", exit.Usage,
			"--peer 192.0.2.11=2001:db8:2::/48: " + isHere},
		{"peer is broadcast", "main", "--remote 192.0.2.255", exit.Usage,
			"--remote 192.0.2.255: is the broadcast address of a network of this host; the far end is one host"},
		{"no route, no local address", "main", "--remote 198.51.100.1", exit.TryAgain,
			"look up route to 198.51.100.1: network is unreachable: no route matches; is the IPv4 network up, with a default route?: " +
				"there is no local address to use (give --local A.B.C.D, or wait for the network)"},
		{"local is not ours", "main", "--remote 192.0.2.2 --local 192.0.2.9", exit.Usage,
			"--local 192.0.2.9: no interface of this host has this address (auto finds the right one)"},
		{"no CAP_NET_ADMIN", "lose-admin", "--remote 192.0.2.2", exit.Permission,
			"no permission to make a tunnel: CAP_NET_ADMIN is missing (run as root, or the container with --cap-add NET_ADMIN)"},
		{"no CAP_NET_RAW", "lose-raw", "--remote 192.0.2.2", exit.Permission,
			"no permission to make a tunnel: CAP_NET_RAW is missing (run as root, or the container with --cap-add NET_RAW)"},
		{"no capability", "lose-both", "--remote 192.0.2.2", exit.Permission,
			"no permission to make a tunnel: CAP_NET_ADMIN and CAP_NET_RAW are missing (run as root, or the container with --cap-add NET_ADMIN --cap-add NET_RAW)"},
		{"no TUN device", "lose-tun", "--remote 192.0.2.2", exit.Unavailable,
			"open /dev/net/tun: no such file or directory: the container has no TUN device (run it with --device /dev/net/tun)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"up", "--address", "2001:db8::2/64", "--socket", socketIn(t, "s")}, strings.Fields(tt.args)...)
			p := start(t, topo.A, tt.role, args...)
			if code := p.code(); code != tt.code {
				t.Errorf("exit status %d, want %d", code, tt.code)
			}
			if got, want := p.stderr.text(), "sixin4: "+tt.want+"\n"; got != want {
				t.Errorf("standard error:\n got %swant %s", got, want)
			}
			sameAs(t, topo.A, before)
		})
	}
}

// TestIPv6Disabled: where new interfaces have no IPv6, ours gets it, and loses
// it with the interface.
func TestIPv6Disabled(t *testing.T) {
	topo := pair(t)
	must(t, topo.A.Sysctl("net/ipv6/conf/default/disable_ipv6", "1"))
	before := dump(t, topo.A)
	p := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--address", "2001:db8::2/64", "--name", "six0", "--socket", socketIn(t, "s"))
	p.ready()
	if now := dump(t, topo.A); !strings.Contains(now, "2001:db8::2/64") {
		t.Errorf("no address in\n%s", now)
	}
	p.stop()
	sameAs(t, topo.A, before)
}

// TestDryRun has no capability and no TUN device.
func TestDryRun(t *testing.T) {
	topo := pair(t)
	before := dump(t, topo.A)
	args := []string{"up", "--remote", "192.0.2.2", "--address", "2001:db8::2/64", "--route", "::/0", "--queues", "2", "--socket", "/nowhere/s", "--dry-run"}
	p := start(t, topo.A, "lose-both", args...)
	if code := p.code(); code != exit.OK || p.stderr.text() != "" {
		t.Errorf("exit status %d, %s", code, p.stderr.text())
	}
	want := `open a raw socket for protocol 41 on 192.0.2.1, and packet sockets to send by as long as nothing on this host looks at what leaves
make the TUN interface sixin4-0 with 2 queues
turn IPv6 on for it where it is off, and its automatic link-local address off
set its MTU to 1480
set it up
give it the address fe80::c000:201/64
give it the address 2001:db8::2/64
route ::/0 into it
make the control socket /nowhere/s
carry what goes to ::/0 to the peer 192.0.2.2
`
	if got := p.stdout.text(); got != want {
		t.Errorf("dry run:\n got %s\nwant %s", got, want)
	}
	p = start(t, topo.A, "lose-both", append(args, "--json")...)
	p.code()
	var plan struct {
		Name, Local, Socket        string
		MTU                        int
		Changes, Addresses, Routes []string
	}
	if err := json.Unmarshal([]byte(p.stdout.text()), &plan); err != nil {
		t.Fatal(err)
	}
	if plan.Name != "sixin4-0" || plan.Local != "192.0.2.1" || plan.MTU != 1480 ||
		strings.Join(plan.Changes, "\n")+"\n" != want {
		t.Errorf("as JSON: %+v", plan)
	}
	sameAs(t, topo.A, before)
}

// TestKernelDriverIsNamed has a link called sit0, as every namespace has where
// the kernel's driver is loaded.
func TestKernelDriverIsNamed(t *testing.T) {
	topo := pair(t)
	must(t, linkCalled(topo.A, "sit0"))
	p := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--socket", socketIn(t, "s"))
	p.ready()
	p.await(p.stderr, "iptables -A OUTPUT -d 192.0.2.2 -p icmp --icmp-type port-unreachable -j DROP")
}

func TestLog(t *testing.T) {
	topo := pair(t)
	for _, tt := range []struct {
		name    string
		args    []string
		journal bool
		check   func(line string) bool
	}{
		{"text", nil, false, func(l string) bool { return strings.HasPrefix(l, "time=") }},
		{"text for the journal", nil, true, func(l string) bool { return strings.HasPrefix(l, "level=INFO ") }},
		{"json", []string{"--log-format", "json"}, false, func(l string) bool { return json.Valid([]byte(l)) }},
		{"verbose", []string{"-v"}, true, func(l string) bool { return strings.HasPrefix(l, "level=") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"up", "--remote", "192.0.2.2", "--socket", socketIn(t, "s")}, tt.args...)
			p := prepare(t, "main", args...)
			if tt.journal {
				p.cmd.Env = append(p.cmd.Env, "JOURNAL_STREAM=9:99")
			}
			must(t, topo.A.Start(p.cmd))
			p.ready()
			if line := p.await(p.stderr, "tunnel is up"); !tt.check(line) {
				t.Errorf("line %q", line)
			}
			p.stop()
			if debug := strings.Contains(p.stderr.text(), "level=DEBUG"); debug != (tt.name == "verbose") {
				t.Errorf("debug lines: %v in\n%s", debug, p.stderr.text())
			}
		})
	}
}
