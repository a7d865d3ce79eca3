package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/daemon"
	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/program"
	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/sqlite"
	"sixin4/tsp/sasl"
	"sixin4/tun/nstest"
)

// beBroker plays the broker, with settings as pairs of key and value for arguments.
func beBroker() error {
	raw := make(config.Raw)
	for i := 1; i+1 < len(os.Args); i += 2 {
		raw.Set(config.Key(os.Args[i]), os.Args[i+1])
	}
	cfg, err := config.CheckBroker(raw)
	if err != nil {
		return err
	}
	ctx, stop := program.UntilSignal(context.Background())
	defer stop()
	err = daemon.Serve(ctx, cfg, daemon.Env{
		Out: os.Stdout, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), SocketDirs: program.SocketDirs(),
	})
	if err == nil {
		os.Exit(exit.OK)
	}
	return err
}

// realBroker is a host and, on the same link, a real broker that carries tunnels.
type realBroker struct {
	*brokered
	process *process
}

func newRealBroker(t *testing.T) *realBroker {
	topo := pair(t)
	return &realBroker{brokered: &brokered{
		t: t, topo: topo, dir: t.TempDir(), host: topo.AddrA.String(), far: topo.AddrB.String(),
	}}
}

func (b *realBroker) begin(args ...string) {
	b.t.Helper()
	b.process = start(b.t, b.topo.B, "broker", append([]string{
		"listen", b.far, "prefix", "2001:db8:1000::/36", "state", b.dir + "/tspd.db", "iterations", "4096",
		"socket", b.dir + "/tspd.sock", "anonymous", "true",
	}, args...)...)
	if line, want := b.process.ready(), "ready: tspd "+b.far+":3653 prefix 2001:db8:1000::/36"; line != want {
		b.t.Fatalf("line %q, want %q", line, want)
	}
}

// TestBroker: a client without an account gets the first address, and TCP goes
// through the tunnel; the broker is started anew, after a kill, and the tunnel goes on
// before the client says a word.
func TestBroker(t *testing.T) {
	t.Parallel()
	b := newRealBroker(t)
	before, beforeB := dump(t, b.topo.A), dump(t, b.topo.B)
	b.begin()
	p := b.connect("--transport", "udp", "--keepalive", "30s")
	want := "ready: six0 v6v4 " + b.host + " -> " + b.far + " address " + clientInside + " mtu 1480"
	if line := p.ready(); line != want {
		t.Errorf("line\n%s, want\n%s", line, want)
	}
	talk := b.talk()
	talk()
	b.process.signal(syscall.SIGKILL)
	b.process.code()
	b.begin()
	talk()
	if n := strings.Count(p.stderr.text(), "tunnel is up"); n != 1 {
		t.Errorf("the client had %d sessions, want 1:\n%s", n, p.stderr.text())
	}
	p.stop()
	b.process.stop()
	sameAs(t, b.topo.A, before)
	sameAs(t, b.topo.B, beforeB)
}

// TestBrokerAccount: a user gets the same address and prefix with each mechanism and
// from anywhere, packets from the prefix pass, and others do not.
func TestBrokerAccount(t *testing.T) {
	t.Parallel()
	b := newRealBroker(t)
	b.addUser("alice", "secret", 48)
	b.begin()
	password := func(text string) string { // a file that holds it
		must(t, os.WriteFile(b.dir+"/"+text, []byte(text), 0o600))
		return b.dir + "/" + text
	}
	right := password("secret")
	prefix := " prefix 2001:db8:1001::/48"
	for _, method := range []string{"any", "scram-sha-256", "digest-md5", "plain"} {
		for _, transport := range []string{"tcp", "udp"} {
			p := b.connect("--user", "alice", "--password-file", right, "--auth", method, "--transport", transport, "--router")
			want := "ready: six0 v6v4 " + b.host + " -> " + b.far + " address " + clientInside + " mtu 1480" + prefix
			if line := p.ready(); line != want {
				t.Errorf("%s over %s: line\n%s, want\n%s", method, transport, line, want)
			}
			p.stop()
		}
	}
	p := b.connect("--user", "alice", "--password-file", right, "--router")
	p.ready()
	talk := b.talk()
	talk()
	b.fromPrefix("2001:db8:1001:7::1", true)
	b.fromPrefix("2001:db8:1002::1", false)
	moved := b.moveHost()
	p.await(p.stderr, "local="+moved)
	talk()
	p.stop()

	p = b.connect("--user", "alice", "--password-file", password("wrong"))
	if code := p.code(); code != exit.Permission {
		t.Errorf("a wrong password: exit status %d, want %d:\n%s", code, exit.Permission, p.stderr.text())
	}
	b.process.stop()
}

// addUser puts an account into the broker's store, as tspd user add does.
func (b *realBroker) addUser(name, password string, prefix int) {
	b.t.Helper()
	key, err := store.OpenKey(b.dir + "/tspd.key")
	must(b.t, err)
	s, err := sqlite.Open(b.t.Context(), sqlite.Config{Path: b.dir + "/tspd.db", Config: store.Config{Key: key}})
	must(b.t, err)
	scram, err := account.HashPassword(name, password, 4096)
	must(b.t, err)
	digest := sasl.NewDigest(name, config.DefaultRealm, password)
	_, err = s.AddUser(b.t.Context(), store.User{Name: name, Scram: scram, Digest: &digest, Legacy: true, PrefixLen: prefix})
	must(b.t, errors.Join(err, s.Close()))
}

// fromPrefix connects through the tunnel from another address of the host.
func (b *realBroker) fromPrefix(source string, passes bool) {
	b.t.Helper()
	must(b.t, b.topo.A.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(source + "/128")
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := errors.Join(netlink.LinkSetUp(lo), netlink.AddrAdd(lo, addr)); err != nil {
			return err
		}
		defer netlink.AddrDel(lo, addr)
		nstest.Eventually(b.t, patience, source+" is usable", func() bool {
			l, err := net.Listen("tcp6", "["+source+"]:0")
			if err == nil {
				l.Close()
			}
			return err == nil
		})
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: patience}
		if !passes {
			d.Timeout = time.Second
		}
		c, err := d.Dial("tcp6", "["+brokerInside+"]:7")
		if (err == nil) != passes {
			b.t.Errorf("from %s: %v, want it to pass: %v", source, err, passes)
		}
		if err == nil {
			c.Close()
		}
		return nil
	}))
}
