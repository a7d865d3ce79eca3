package main

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
	"sixin4/tsp/tsptest"
)

// users are those of the files in testdata/conf.
var users = map[string]string{
	"alice": "wonderland", "bob": "builder", "carol": "chaos&order#1", "dave": "hal-9000",
	"erin": "router-of-erin", "frank": "two words", "grace": "hopper",
}

// theServer is the line of a file that names the broker.
var theServer = regexp.MustCompile(`(?m)^([ \t]*server[ \t]*=).*$`)

// oldConfig copies a file of testdata/conf, with the broker of the test in it.
func oldConfig(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../testdata/conf", name))
	must(t, err)
	return write(t, name, string(theServer.ReplaceAll(text, []byte("${1}192.0.2.1"))))
}

// TestOldFiles runs the files of hosts as they were handed down, to their end.
func TestOldFiles(t *testing.T) {
	for i, name := range []string{
		"anonymous.conf", "gogoc.conf", "gw6c.conf", "sloppy.conf", "tspc-old.conf", "tspc.conf",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			must(t, n.B.AddAddr(n.LinkB, "192.0.2.77/24")) // client_v4 of one of them
			b := n.broker("192.0.2.1", tsptest.Config{Users: users})
			before := n.dump()
			file := oldConfig(t, name)
			p := n.tspc(file, "-v")
			p.awaitUp()
			n.has("link sit1 tuntap mtu 1280 up", "address 2001:db8:aa::2/128 ", "route 2000::/3 ")
			s, err := b.AwaitAccept(t.Context(), 1)
			if err != nil || !s.Request.Type.Allows(tsp.V6V4) {
				t.Errorf("the broker was asked for %+v, %v", s.Request, err)
			}
			last, err := os.ReadFile(filepath.Join(filepath.Dir(file), "tsp-last-server.txt"))
			if err != nil || string(last) != "192.0.2.1\n" {
				t.Errorf("last server: %q, %v", last, err)
			}
			p.signal([]os.Signal{syscall.SIGTERM, syscall.SIGHUP}[i%2])
			p.ends(statusFine)
			n.sameAs(before)
		})
	}
}

// TestTranscriptAsItIs is the whole of what somebody with an old file sees.
func TestTranscriptAsItIs(t *testing.T) {
	n := newNetwork(t)
	n.broker("192.0.2.1", tsptest.Config{Users: users})
	p := n.tspc(oldConfig(t, "tspc.conf"), "-v")
	p.awaitUp()
	p.signal(syscall.SIGTERM)
	p.ends(statusFine)
	want := `tspc - Tunnel Server Protocol Client
Loading configuration file
Connecting to server
Using [192.0.2.2] as source IPv4 address.
Send request
Process response from server
TSP_HOST_TYPE host
TSP_TUNNEL_INTERFACE sit1
TSP_HOME_INTERFACE
TSP_CLIENT_ADDRESS_IPV4 192.0.2.2
TSP_CLIENT_ADDRESS_IPV6 2001:0db8:00aa:0000:0000:0000:0000:0002
TSP_SERVER_ADDRESS_IPV4 192.0.2.1
TSP_SERVER_ADDRESS_IPV6 2001:0db8:00aa:0000:0000:0000:0000:0001
TSP_TUNNEL_PREFIXLEN 128
TSP_VERBOSE 1
TSP_HOME_DIR /usr/local/tsp
--- Start of configuration script. ---
Script: linux.sh
sit1 setup
Setting up link to 192.0.2.1
This host is: 2001:0db8:00aa:0000:0000:0000:0000:0002/128
Adding default route
--- End of configuration script. ---
Tunnel is up, staying in the foreground
Exiting with return code : 0 (0 = no error)
`
	if got := p.stdout.String(); got != want {
		t.Errorf("standard output:\n%s\nwant\n%s", got, want)
	}
}

// anonymous is a file without an account; lines are added to it.
func anonymous(t *testing.T, lines ...string) string {
	t.Helper()
	return write(t, "tspc.conf", "server=192.0.2.1\nauth_method=anonymous\nif_tunnel_v6v4=sit1\nretry_delay=1\nretry_delay_max=1\n"+
		strings.Join(lines, "\n")+"\n")
}

func TestSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(unix.SignalName(s), func(t *testing.T) {
			n := newNetwork(t)
			b := n.broker("192.0.2.1", tsptest.Config{})
			before := n.dump()
			p := n.tspc(anonymous(t))
			p.awaitUp()
			p.signal(s)
			p.ends(statusFine)
			n.sameAs(before)

			b.Change(func(c *tsptest.Config) { c.Refuse = map[tsptest.Step]tsp.Code{tsptest.Hello: tsp.Busy} })
			p = n.tspc(anonymous(t))
			p.await(&p.stdout, "Connection failed: 192.0.2.1: ")
			p.signal(s)
			p.ends(statusBusy) // as that is why there was no tunnel
			n.sameAs(before)
		})
	}
}

// TestFailures: with -b the first failure is the end, with its own status.
func TestFailures(t *testing.T) {
	refuse := func(s tsptest.Step, c tsp.Code) tsptest.Config {
		return tsptest.Config{Refuse: map[tsptest.Step]tsp.Code{s: c}}
	}
	const alice = "auth_method=digest-md5\nuserid=alice\npasswd="
	for _, tt := range []struct {
		name   string
		file   string
		broker tsptest.Config
		status int
	}{
		{"version", "", refuse(tsptest.Hello, tsp.BadVersion), statusVersion},
		{"busy", "", refuse(tsptest.Hello, tsp.Busy), statusBusy},
		{"prefix for nobody", "", refuse(tsptest.Create, tsp.PrefixAnonymous), statusRefused},
		{"nobody", "", refuse(tsptest.Verdict, tsp.AuthFailed), statusRefused},
		{"wrong password", alice + "looking-glass", tsptest.Config{Users: users}, statusAuthentication},
		{"no common mechanism", alice + "wonderland",
			tsptest.Config{Users: users, Offers: tsp.Capability{Auths: []string{sasl.Anonymous, sasl.Plain}}}, statusMechanism},
		{"mode", "tunnel_mode=v6v4", tsptest.Config{Offers: tsp.Capability{Tunnels: []tsp.Type{tsp.V6UDPV4}}}, statusMode},
		{"redirected to ourselves", "", tsptest.Config{Redirect: map[tsptest.Step][]tsp.Broker{
			tsptest.Hello: {{Addr: netip.MustParseAddr("127.0.0.1")}}}}, statusRedirect},
		{"tunnel data", "", tsptest.Config{Faults: tsptest.Edit("client6", tsptest.Fails, `(?s)(<client>.*?"ipv6">)[^<]*`, "fe80::1").
			At(tsptest.Create)}, statusTunnelData},
		{"cut short", "", tsptest.Config{Faults: tsptest.Cut(3).At(tsptest.Create)}, statusTunnelData},
		{"not our address", "client_v4=192.0.2.99", tsptest.Config{}, statusClientAddress},
		{"nobody there", "server=192.0.2.1:3999", tsptest.Config{}, statusConnect},
		{"name", "server=broker.invalid", tsptest.Config{}, statusResolve},
		{"interface exists", "if_tunnel_v6v4=b0", tsptest.Config{}, statusConfiguration},
		{"mode of IPv4 in IPv6", "tunnel_mode=v4v6", tsptest.Config{}, statusConfiguration},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t)
			n.broker("192.0.2.1", tt.broker)
			before := n.dump()
			p := n.tspc(anonymous(t, tt.file), "-b")
			p.ends(tt.status)
			if got := p.stderr.String(); !strings.Contains(got, "tspc: ") {
				t.Errorf("no reason on standard error: %q", got)
			}
			n.sameAs(before)
		})
	}
}

func TestNoPrivilege(t *testing.T) {
	n := newNetwork(t)
	before := n.dump()
	p := n.as("lose-admin", anonymous(t))
	p.ends(statusSetup)
	want := "tspc: no permission to make a tunnel: CAP_NET_ADMIN is missing (run as root, or the container with --cap-add NET_ADMIN)\n"
	if got := p.stderr.String(); got != want {
		t.Errorf("standard error %q, want %q", got, want)
	}
	n.sameAs(before)
}

// TestRedirected follows the first broker to the second, and remembers both lists.
func TestRedirected(t *testing.T) {
	n := newNetwork(t)
	must(t, n.A.AddAddr(n.LinkA, "192.0.2.9/24"))
	n.broker("192.0.2.1", tsptest.Config{Redirect: map[tsptest.Step][]tsp.Broker{
		tsptest.Hello: {{Addr: netip.MustParseAddr("192.0.2.9")}},
	}})
	second := n.broker("192.0.2.9", tsptest.Config{})
	file := anonymous(t)
	p := n.tspc(file, "-v")
	p.awaitUp()
	if !strings.Contains(p.stdout.String(), "\nRedirected to 192.0.2.9\n") || len(second.Accepts()) != 1 {
		t.Errorf("%d tunnels of the second broker, standard output\n%s", len(second.Accepts()), &p.stdout)
	}
	for _, name := range []string{"tsp-last-server.txt", "tsp-broker-list.txt"} {
		got, err := os.ReadFile(filepath.Join(filepath.Dir(file), name))
		if err != nil || string(got) != "192.0.2.9\n" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	p.signal(syscall.SIGTERM)
	p.ends(statusFine)
}

// TestRouter asks for a prefix. Without a script the LAN is left alone.
func TestRouter(t *testing.T) {
	n := newNetwork(t)
	n.broker("192.0.2.1", tsptest.Config{Users: users})
	before := n.dump()
	p := n.tspc(oldConfig(t, "router.conf"), "-v")
	p.awaitUp()
	n.has("route 2001:db8:f00::/56 ", "address 2001:db8:aa::2/128 ")
	for _, want := range []string{"TSP_HOST_TYPE router\n", "TSP_HOME_INTERFACE eth1\n", "TSP_PREFIX 2001:0db8:0f00:0000\n", "TSP_PREFIXLEN 56\n"} {
		if !strings.Contains(p.stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, &p.stdout)
		}
	}
	if want := "this version sends no router advertisements"; !strings.Contains(p.stderr.String(), want) {
		t.Errorf("no %q in\n%s", want, &p.stderr)
	}
	p.signal(syscall.SIGTERM)
	p.ends(statusFine)
	n.sameAs(before)
}

// TestMessages: -vvv shows them, without the password.
func TestMessages(t *testing.T) {
	n := newNetwork(t)
	n.broker("192.0.2.1", tsptest.Config{Users: users})
	p := n.tspc(anonymous(t, "auth_method=plain\nuserid=alice\npasswd=wonderland"), "-vvv")
	p.awaitUp()
	p.signal(syscall.SIGTERM)
	p.ends(statusFine)
	for _, want := range []string{"C: VERSION=2.0.2\n", "S: CAPABILITY ", "C: AUTHENTICATE PLAIN\n", `C: <tunnel action="create"`, `S: <tunnel action="info"`} {
		if !strings.Contains(p.stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, &p.stdout)
		}
	}
	if strings.Contains(p.stdout.String()+p.stderr.String(), "wonderland") {
		t.Error("the password is shown")
	}
}

// TestPing: packets flow, both ways.
func TestPing(t *testing.T) {
	n := newNetwork(t)
	n.broker("192.0.2.1", tsptest.Config{})
	n.farEnd()
	p := n.tspc(anonymous(t))
	p.awaitUp()
	for _, to := range []struct {
		name     string
		from     func(func() error) error
		src, dst string
	}{{"from us", n.B.Do, "2001:db8:aa::2", "2001:db8:aa::1"}, {"to us", n.A.Do, "2001:db8:aa::1", "2001:db8:aa::2"}} {
		var conn net.PacketConn
		must(t, to.from(func() (err error) {
			conn, err = net.ListenPacket("ip6:ipv6-icmp", to.src)
			return err
		}))
		defer conn.Close()
		must(t, conn.SetDeadline(time.Now().Add(patience)))
		ping(t, conn, to.dst)
	}
}

// ping sends an echo request of the largest size that fits and waits for the reply. The
// kernel fills in the checksum.
func ping(t *testing.T, conn net.PacketConn, dst string) {
	t.Helper()
	const request, reply, headers = 128, 129, 40 + 8
	payload := bytes.Repeat([]byte("6in4"), (1280-headers)/4)
	if _, err := conn.WriteTo(append([]byte{request, 0, 0, 0, 1, 2, 0, 3}, payload...), &net.IPAddr{IP: net.ParseIP(dst)}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	for {
		size, from, err := conn.ReadFrom(buf)
		must(t, err)
		if buf[0] == reply && from.String() == dst && bytes.Equal(buf[8:size], payload) {
			return
		}
	}
}
