package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sixin4/tun/nstest"
)

// TestProxyBroker: through a NAT and a real broker, by all that the proxy has: SOCKS5 for
// TCP and UDP, HTTP with and without CONNECT, and a published port; as root, and as user
// 65532 without anything.
func TestProxyBroker(t *testing.T) {
	for _, role := range []string{"main", "bare"} {
		t.Run(role, func(t *testing.T) {
			n := behindNAT(t, "keepalive", "3s")
			must(t, n.nat.AddNAT(nstest.NAT{Link: nstest.LinkRB, Random: true}))
			p := prepare(t, role, "proxy", "--server", n.far, "--socks5", "127.0.0.1:1080", "--publish", "[::]:8080=127.0.0.1:9090", "--keepalive", "3s")
			if role == "main" {
				p.cmd.Args = append(p.cmd.Args, "--socket", n.dir+"/six0.sock")
			} else { // there is nowhere to put one
				p.cmd.Path = readable(t)
				p.cmd.Dir, p.cmd.SysProcAttr = "/", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
			}
			must(t, n.topo.A.Start(p.cmd))
			fields := strings.Fields(p.ready())
			if len(fields) != 14 || fields[6] != "v6udpv4" || fields[11] != clientInside {
				t.Fatalf("line %q", fields)
			}
			if role == "bare" {
				checkBare(t, p.cmd.Process.Pid)
			}
			n.serveWeb()
			for _, scheme := range []string{"socks5h", "http"} {
				n.fetch(scheme, "http://["+brokerInside+"]/")
			}
			n.connectHTTP()
			n.associate()
			must(t, n.nat.FlushNAT())
			n.published(fields[11])
			n.fetch("socks5h", "http://["+brokerInside+"]/")
			if role == "main" {
				s := n.status()
				if s.Name != "proxy-0" || s.State != "up" || s.Mode != "v6udpv4" || s.Wire != "udp" || s.MTU != 1472 || s.Remote != n.far ||
					len(s.Addresses) != 1 || s.Addresses[0] != clientInside+"/128" || s.Rx.Bytes < 500_000 || len(s.Peers) != 1 {
					t.Errorf("status %+v", s)
				}
			}
			p.stop()
			n.process.stop()
		})
	}
}

// readable is this program where every user can read it.
func readable(t *testing.T) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	dir, err := os.MkdirTemp("", "bare")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "sixin4")
	must(t, errors.Join(os.Chmod(dir, 0o755), os.WriteFile(program, self, 0o755)))
	return program
}

// fromA dials on the client's host.
func (n *natted) fromA(_ context.Context, network, address string) (c net.Conn, err error) {
	err = n.topo.A.Do(func() (err error) {
		c, err = (&net.Dialer{Timeout: patience}).Dial(network, address)
		return err
	})
	return c, err
}

// serveWeb serves who asks, and says all datagrams again, at the broker's end.
func (n *natted) serveWeb() {
	n.t.Helper()
	var (
		web net.Listener
		udp net.PacketConn
	)
	must(n.t, n.topo.B.Do(func() (err error) {
		if web, err = net.Listen("tcp6", "["+brokerInside+"]:80"); err != nil {
			return err
		}
		udp, err = net.ListenPacket("udp6", "["+brokerInside+"]:7")
		return err
	}))
	n.t.Cleanup(func() { web.Close(); udp.Close() })
	go func() {
		_ = http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.RemoteAddr+strings.Repeat(" page", 100_000))
		}))
	}()
	go func() {
		for b := make([]byte, 2048); ; {
			size, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(b[:size], from)
		}
	}()
}

// fetch gets the page through the proxy.
func (n *natted) fetch(scheme, from string) {
	n.t.Helper()
	transport := &http.Transport{DialContext: n.fromA, Proxy: http.ProxyURL(&url.URL{Scheme: scheme, Host: "127.0.0.1:1080"})}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport, Timeout: patience}).Get(from)
	must(n.t, err)
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err != nil || len(page) < 500_000 || !strings.HasPrefix(string(page), "["+clientInside+"]:") {
		n.t.Errorf("%s: %d bytes, %.40q, %v", scheme, len(page), page, err)
	}
}

// connectHTTP gets to the web server by CONNECT.
func (n *natted) connectHTTP() {
	n.t.Helper()
	c, err := n.fromA(n.t.Context(), "tcp", "127.0.0.1:1080")
	must(n.t, err)
	defer c.Close()
	must(n.t, c.SetDeadline(time.Now().Add(patience)))
	to := "[" + brokerInside + "]:80"
	_, err = io.WriteString(c, "CONNECT "+to+" HTTP/1.1\r\nHost: "+to+"\r\n\r\n")
	must(n.t, err)
	b := make([]byte, 12)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "HTTP/1.1 200" {
		n.t.Errorf("%q, %v", b, err)
	}
}

// associate sends a datagram by SOCKS5 (RFC 1928, Section 7) and waits until it is back.
func (n *natted) associate() {
	n.t.Helper()
	c, err := n.fromA(n.t.Context(), "tcp", "127.0.0.1:1080")
	must(n.t, err)
	defer c.Close()
	must(n.t, c.SetDeadline(time.Now().Add(patience)))
	_, err = c.Write([]byte{5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0})
	must(n.t, err)
	b := make([]byte, 12)
	if _, err := io.ReadFull(c, b); err != nil || b[3] != 0 || b[5] != 1 {
		n.t.Fatalf("% x, %v", b, err)
	}
	relay := netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[6:])), binary.BigEndian.Uint16(b[10:]))
	u, err := n.fromA(n.t.Context(), "udp", relay.String())
	must(n.t, err)
	defer u.Close()
	to := netip.MustParseAddr(brokerInside).As16()
	d := append(append([]byte{0, 0, 0, 4}, to[:]...), 0, 7, 'w', 'o', 'r', 'd')
	got := make([]byte, 100)
	nstest.Eventually(n.t, patience, "the datagram is back", func() bool {
		_, err := u.Write(d)
		must(n.t, err)
		must(n.t, u.SetReadDeadline(time.Now().Add(time.Second)))
		size, err := u.Read(got)
		return err == nil && string(got[:size]) == string(d)
	})
}

// published gets to a server of the client's host from the broker's.
func (n *natted) published(inside string) {
	n.t.Helper()
	var l net.Listener
	must(n.t, n.topo.A.Do(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:9090")
		return err
	}))
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.WriteString(c, "served here")
			_ = c.Close()
		}
	}()
	c := n.brokered.dial(n.topo.B, "["+inside+"]:8080")
	must(n.t, c.SetDeadline(time.Now().Add(patience)))
	if got, err := io.ReadAll(c); string(got) != "served here" || err != nil {
		n.t.Errorf("%q, %v", got, err)
	}
}
