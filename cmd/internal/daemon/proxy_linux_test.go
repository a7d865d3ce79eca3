package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/wire"
	"sixin4/tsp"
	"sixin4/tsp/tsptest"
	"sixin4/tun/netstack"
)

// farSide is a broker on loopback and a host behind it, all in this process: no
// privilege is needed.
type farSide struct {
	at     netip.AddrPort
	broker *tsptest.Broker
	host   *netstack.Device
	silent atomic.Bool // eats the data
	client atomic.Pointer[[28]byte]
}

var webAddr = netip.MustParseAddr("2001:db8:bb::80")

func newFarSide(t *testing.T, c tsptest.Config) *farSide {
	t.Helper()
	if c.Answer == nil {
		c.Answer = func(r *tsp.Request, from netip.Addr) (*tsp.Tunnel, error) {
			offer := tsptest.Offer(r, from)
			offer.Server4 = from
			return offer, nil
		}
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	link, err := wire.NewUDP(wire.UDPConfig{Conn: socket})
	if err != nil {
		t.Fatal(err)
	}
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	f := &farSide{at: link.LocalAddr(), broker: tsptest.New(c)}
	if f.host, err = netstack.New(netstack.Config{MTU: 1472}); err != nil {
		t.Fatal(err)
	}
	if err := f.host.SetAddresses([]netip.Addr{webAddr, netip.MustParseAddr("2001:db8:aa::1")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.broker.ServePackets(ctx, link.Control()) })
	wg.Go(func() { f.in(link) })
	wg.Go(func() { f.out(link) })
	t.Cleanup(func() {
		cancel()
		_, _ = link.Close(), f.host.Close()
		wg.Wait()
	})
	return f
}

// in takes data from the client, and notes the way back.
func (f *farSide) in(link *wire.UDP) {
	r, w := link.Reader(), f.host.NewWriter()
	for b := packet.NewBatch(wire.BatchSize); r.Read(b) == nil; {
		for i := range b.Packets {
			p := &b.Packets[i]
			h := [28]byte(p.Head())
			copy(h[12:16], p.Head()[16:20])
			copy(h[16:20], p.Head()[12:16])
			copy(h[20:22], p.Head()[22:24])
			copy(h[22:24], p.Head()[20:22])
			f.client.Store(&h)
			p.Pull(28)
		}
		if !f.silent.Load() {
			_, _ = w.Write(b)
		}
	}
}

func (f *farSide) out(link *wire.UDP) {
	w, err := link.NewWriter()
	if err != nil {
		return
	}
	r := f.host.Reader()
	for b := packet.NewBatch(wire.BatchSize); r.Read(b) == nil; {
		for i := range b.Packets {
			copy(b.Packets[i].Push(28), f.client.Load()[:])
		}
		_, _ = w.Write(b)
	}
}

// askedProxy makes a configuration of the proxy from pairs of key and text.
func askedProxy(t *testing.T, f *farSide, pairs ...string) config.ProxySettings {
	t.Helper()
	raw := make(config.Raw)
	raw.Set(config.Servers, f.at.String())
	raw.Set(config.SOCKS5, "127.0.0.1:0")
	for i := 0; i < len(pairs); i += 2 {
		raw.Set(config.Key(pairs[i]), pairs[i+1])
	}
	cfg, err := config.CheckProxy(raw, config.NewSecret(""))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// proxyRun is a proxy that runs.
type proxyRun struct {
	ready  string
	cancel func()
	ended  chan error
}

// startProxy waits for the ready line.
func startProxy(t *testing.T, cfg config.ProxySettings) *proxyRun {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	pr, pw := io.Pipe()
	r := &proxyRun{cancel: cancel, ended: make(chan error, 1)}
	go func() {
		_, err := Proxy(ctx, cfg, Env{Out: pw, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}, nil)
		r.ended <- err
		_ = pw.CloseWithError(errors.Join(io.EOF, err))
	}()
	line, err := bufio.NewReader(pr).ReadString('\n')
	if err != nil {
		cancel()
		t.Fatalf("no ready line: %v", err)
	}
	r.ready = line
	t.Cleanup(func() { r.stop(t) })
	return r
}

func (r *proxyRun) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	select {
	case err, ok := <-r.ended:
		if ok && err != nil {
			t.Errorf("ended with %v", err)
		}
		if ok {
			close(r.ended)
		}
	case <-time.After(time.Minute):
		t.Error("goes on")
	}
}

// TestProxy: a negotiation, and web pages both ways: through the tunnel by both
// protocols, and from outside a server of this host.
func TestProxy(t *testing.T) {
	f := newFarSide(t, tsptest.Config{})
	l, err := f.host.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	page := bytes.Repeat([]byte("page "), 200_000)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(append([]byte(r.RemoteAddr+" "), page...))
	})}
	go func() { _ = web.Serve(l) }()
	defer web.Close()
	local, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	go func() {
		for {
			c, err := local.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "served here")
			_ = c.Close()
		}
	}()
	r := startProxy(t, askedProxy(t, f, "publish", "[::]:8080="+local.Addr().String()))
	fields := strings.Fields(r.ready)
	if len(fields) != 14 || fields[0] != "ready:" || fields[6] != "v6udpv4" || fields[12] != "mtu" || fields[11] != "2001:db8:aa::2" {
		t.Fatalf("%q", r.ready)
	}
	for _, scheme := range []string{"socks5h", "http"} {
		transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: scheme, Host: fields[3]})}
		defer transport.CloseIdleConnections()
		answer, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get("http://[2001:db8:bb::80]/")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || !bytes.HasPrefix(got, []byte("[2001:db8:aa::2]:")) || !bytes.HasSuffix(got, page) {
			t.Errorf("%s: %d bytes, %v", scheme, len(got), err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := f.host.DialContext(ctx, "tcp", "[2001:db8:aa::2]:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); string(got) != "served here" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestProxyHeals: when the far end falls silent there is another session, and a
// connection from before goes on.
func TestProxyHeals(t *testing.T) {
	f := newFarSide(t, tsptest.Config{})
	l, err := f.host.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(c, c)
		_ = c.Close()
	}()
	r := startProxy(t, askedProxy(t, f, "keepalive", "1s", "retry-delay", "1s"))
	c, err := net.Dial("tcp", strings.Fields(r.ready)[3])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	to := webAddr.As16()
	request := append([]byte{5, 1, 0, 5, 1, 0, 4}, to[:]...)
	_, _ = c.Write(binary.BigEndian.AppendUint16(request, 7))
	if _, err := io.ReadFull(c, make([]byte, 2+22)); err != nil {
		t.Fatal(err)
	}
	say := func(text string) {
		t.Helper()
		_, _ = io.WriteString(c, text)
		got := make([]byte, len(text))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
			t.Fatalf("%q, %v", got, err)
		}
	}
	say("before")
	f.silent.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := f.broker.AwaitAccept(ctx, 2); err != nil {
		t.Fatal(err)
	}
	f.silent.Store(false)
	say("after")
}

func TestProxyRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config tsptest.Config
		code   int
		text   string
	}{
		{"protocol 41 only", tsptest.Config{Answer: func(r *tsp.Request, from netip.Addr) (*tsp.Tunnel, error) {
			offer := tsptest.Offer(r, from)
			offer.Type, offer.Server4 = tsp.V6V4, from.Next()
			return offer, nil
		}}, exit.Failure, "asked for v6udpv4"},
		{"not offered", tsptest.Config{Offers: tsp.Capability{Tunnels: []tsp.Type{tsp.V6V4}}}, exit.Unavailable, "v6udpv4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFarSide(t, tt.config)
			env := Env{Out: io.Discard}
			env.GiveUp = 2 // any failure
			_, err := Proxy(t.Context(), askedProxy(t, f), env, nil)
			if exit.Code(err) != tt.code || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%d, %v", exit.Code(err), err)
			}
		})
	}
}

// TestProxyCommand: the tunnel lives as long as the command, which finds the proxy.
func TestProxyCommand(t *testing.T) {
	f := newFarSide(t, tsptest.Config{})
	status, err := Proxy(t.Context(), askedProxy(t, f), Env{Out: io.Discard},
		[]string{"/bin/sh", "-c", `case "$http_proxy" in http://127.0.0.1:*) exit 7;; esac; exit 1`})
	if status != 7 || err != nil {
		t.Errorf("%d, %v", status, err)
	}
}

func TestTunMTU(t *testing.T) {
	for _, tt := range []struct {
		path  encap.WireMTU
		limit encap.TunMTU
		want  encap.TunMTU
	}{
		{1500, 0, 1472}, {1500, 1400, 1400}, {1500, 9000, 1472}, {1280, 0, 1280}, {576, 0, 1280}, {1500, 1000, 1280}, {65535, 0, 65507},
	} {
		if got := tunMTU(tt.path, tt.limit); got != tt.want {
			t.Errorf("path %d, limit %d: %d, want %d", tt.path, tt.limit, got, tt.want)
		}
	}
}
