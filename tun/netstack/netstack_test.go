package netstack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sixin4/encap/packet"
)

// wrongOnTheWire says what is wrong with a packet, or nothing.
func wrongOnTheWire(p *packet.Packet, mtu int) string {
	b := p.AppendTo(nil)
	switch {
	case p.Off < packet.Headroom:
		return "no headroom"
	case p.Seg != 0 || p.Sum != packet.SumFull:
		return "not finished"
	case len(b) > mtu:
		return "longer than the link takes"
	case len(b) < 40 || int(binary.BigEndian.Uint16(b[4:]))+40 != len(b):
		return "length is not what the header says"
	case b[6] == protoTCP || b[6] == protoUDP || b[6] == 58:
		if packet.Fold(packet.AddBytes(packet.PseudoHeader(b[8:], b[6], len(b)-40), b[40:])) != 0xffff {
			return "wrong checksum"
		}
	}
	return ""
}

// inspect fails the test for every packet that is not as it must be.
func inspect(t testing.TB, mtu int) pass {
	return func(b *packet.Batch) {
		for i := range b.Packets {
			if why := wrongOnTheWire(&b.Packets[i], mtu); why != "" {
				t.Errorf("packet of %d bytes: %s", b.Packets[i].Len(), why)
			}
		}
	}
}

func TestStream(t *testing.T) {
	data := pattern(2 << 20)
	var n int
	lose := func(b *packet.Batch) { // every 301st packet
		kept := b.Packets[:0]
		for _, p := range b.Packets {
			if n++; n%301 != 0 {
				kept = append(kept, p)
			}
		}
		b.Packets = kept
	}
	for _, tt := range []struct {
		name string
		mtu  int
		on   func(t *testing.T) pass
	}{
		{"smallest MTU", 1280, func(t *testing.T) pass { return inspect(t, 1280) }},
		{"odd MTU", 1433, func(t *testing.T) pass { return inspect(t, 1433) }},
		{"largest MTU", 65535, func(t *testing.T) pass { return inspect(t, 65535) }},
		{"loss", 1472, func(*testing.T) pass { return lose }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t, Config{MTU: tt.mtu}, tt.on(t), inspect(t, tt.mtu))
			l := listen(t, p.b, "[::]:80")
			out, in := connect(t, p.a, l, at(addrB, 80))
			send(t, out, data)
			send(t, in, data[:1<<20])
			if got := receive(t, in); !bytes.Equal(got, data) {
				t.Errorf("%d bytes arrived, or others", len(got))
			}
			if got := receive(t, out); !bytes.Equal(got, data[:1<<20]) {
				t.Errorf("%d bytes came back, or others", len(got))
			}
			s := p.a.Stats()
			if s.BadSum != 0 || tt.mtu < 65535 && s.SplitInto <= s.Split {
				t.Errorf("%+v", s)
			}
			if s := p.b.Stats(); tt.mtu < 65535 && s.Joined == 0 {
				t.Errorf("nothing was joined: %+v", s)
			}
		})
	}
}

func TestDatagrams(t *testing.T) {
	p := newPair(t, Config{}, inspect(t, 1280), inspect(t, 1280))
	server, err := p.b.ListenPacket("udp", at(addrB, 53))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	_ = server.SetDeadline(time.Now().Add(limit))
	client, err := p.a.DialContext(ctx(t), "udp", at(addrB, 53))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_ = client.SetDeadline(time.Now().Add(limit))
	for _, n := range []int{0, 1, 1232, 1233, 5000, 60000} { // the longer ones go in fragments
		want := pattern(n)
		if _, err := client.Write(want); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		buf := make([]byte, 65536)
		got, from, err := server.ReadFrom(buf)
		if err != nil || !bytes.Equal(buf[:got], want) {
			t.Fatalf("%d bytes: %d arrived, %v", n, got, err)
		}
		if _, err := server.WriteTo(want, from); err != nil {
			t.Fatal(err)
		}
		if got, err := client.Read(buf); err != nil || !bytes.Equal(buf[:got], want) {
			t.Fatalf("%d bytes: %d came back, %v", n, got, err)
		}
	}
	if _, err := server.WriteTo([]byte{1}, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}); err == nil {
		t.Error("sent to an IPv4 address")
	}
}

func TestAddressesChange(t *testing.T) {
	p := newPair(t, Config{}, nil, nil)
	second := netip.MustParseAddr("2001:db8:b::2")
	if err := p.b.SetAddresses([]netip.Addr{addrB, second}); err != nil {
		t.Fatal(err)
	}
	l := listen(t, p.b, "[::]:80")
	_, gone := connect(t, p.a, l, at(addrB, 80))
	out, in := connect(t, p.a, l, at(second, 80))

	third := netip.MustParseAddr("2001:db8:b::3")
	if err := p.b.SetAddresses([]netip.Addr{second, third}); err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Read(make([]byte, 1)); err == nil {
		t.Error("the connection to the address that went lives on")
	}
	if _, err := out.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := in.Read(make([]byte, 1)); err != nil {
		t.Errorf("the connection to the address that stayed: %v", err)
	}
	connect(t, p.a, l, at(third, 80))
	got := p.b.Addresses()
	slices.SortFunc(got, netip.Addr.Compare)
	if !slices.Equal(got, []netip.Addr{second, third}) {
		t.Errorf("addresses %v", got)
	}
	for _, bad := range []string{"::", "::1", "ff02::1", "192.0.2.1", "::ffff:192.0.2.1", "fe80::1%eth0"} {
		if err := p.b.SetAddresses([]netip.Addr{netip.MustParseAddr(bad)}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	if len(p.b.Addresses()) != 2 {
		t.Error("what was refused changed something")
	}
}

func TestMTUChanges(t *testing.T) {
	var longest atomic.Int64
	p := newPair(t, Config{MTU: 1472}, func(b *packet.Batch) {
		for i := range b.Packets {
			longest.Store(max(longest.Load(), int64(b.Packets[i].Len())))
		}
	}, nil)
	l := listen(t, p.b, "[::]:80")
	for _, mtu := range []int{1280, 1400} {
		if err := p.a.SetMTU(mtu); err != nil {
			t.Fatal(err)
		}
		longest.Store(0)
		out, in := connect(t, p.a, l, at(addrB, 80))
		send(t, out, pattern(100_000))
		receive(t, in)
		if got := int(longest.Load()); got > mtu || got < mtu-40 { // the stack leaves room for options
			t.Errorf("MTU %d: the longest packet has %d bytes", mtu, got)
		}
	}
	for _, bad := range []int{-1, 0, 1279, 65536} {
		if p.a.SetMTU(bad) == nil {
			t.Errorf("MTU %d was taken", bad)
		}
	}
}

func TestErrors(t *testing.T) {
	p := newPair(t, Config{}, nil, nil)
	bare := newDevice(t, Config{})
	for _, tt := range []struct {
		name    string
		d       *Device
		network string
		address string
		want    error
	}{
		{"nobody listens", p.a, "tcp", at(addrB, 81), syscall.ECONNREFUSED},
		{"no address yet", bare, "tcp", at(addrB, 80), syscall.ENETUNREACH},
		{"UDP without an address", bare, "udp", at(addrB, 80), syscall.ENETUNREACH},
		{"IPv4", p.a, "tcp", "192.0.2.1:80", nil},
		{"IPv4 in IPv6", p.a, "tcp", "[::ffff:192.0.2.1]:80", nil},
		{"a name", p.a, "tcp", "example.net:80", nil},
		{"nowhere", p.a, "tcp", "[::]:80", nil},
		{"network", p.a, "tcp4", at(addrB, 80), nil},
	} {
		c, err := tt.d.DialContext(ctx(t), tt.network, tt.address)
		if err == nil {
			c.Close()
		}
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	listen(t, p.b, "[::]:80")
	if _, err := p.b.Listen("tcp", ":80"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port that is in use: %v", err)
	}
	if _, err := p.b.Listen("udp", ":80"); err == nil {
		t.Error("a TCP listener for UDP")
	}
	if _, err := p.b.ListenPacket("tcp", ":80"); err == nil {
		t.Error("a UDP socket for TCP")
	}
	for _, bad := range []Config{{MTU: 1279}, {MTU: 65536}, {Buffer: -1}, {Queue: -1}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// TestClose: whatever waits ends, with an error that says why, and nothing is left
// running (TestMain).
func TestClose(t *testing.T) {
	p := newPair(t, Config{}, nil, nil)
	l := listen(t, p.b, "[::]:80")
	out, in := connect(t, p.a, l, at(addrB, 80))
	ends := make(chan error, 3)
	go func() { _, err := l.Accept(); ends <- err }()
	go func() { _, err := in.Read(make([]byte, 1)); ends <- err }()
	go func() { // until the buffers are full, and longer
		var err error
		for b := make([]byte, 1<<20); err == nil; {
			_, err = out.Write(b)
		}
		ends <- err
	}()
	_ = l.Close()
	_ = out.Close()
	_ = in.Close()
	for range 3 {
		if err := <-ends; !errors.Is(err, net.ErrClosed) || !errors.Is(err, os.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	}
	for range 2 {
		if err := p.a.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.a.DialContext(ctx(t), "tcp", at(addrB, 80)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("dial: %v", err)
	}
	if err := p.a.Reader().Read(packet.NewBatch(1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, err := p.a.NewWriter().Write(packet.NewBatch(1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write: %v", err)
	}
	if _, err := p.a.Listen("tcp", ":80"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("listen: %v", err)
	}
}

// TestQueueFull: what nobody reads is dropped and counted, and blocks nobody.
func TestQueueFull(t *testing.T) {
	d := newDevice(t, Config{Queue: 10_000}, addrA)
	c, err := d.DialContext(ctx(t), "udp", at(addrB, 9))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 100 {
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	r, b := d.Reader(), packet.NewBatch(128)
	if err := r.Read(b); err != nil {
		t.Fatal(err)
	}
	if got, lost := b.Len(), int(d.Stats().Overflow); got != 10 || got+lost != 100 {
		t.Errorf("%d waited and %d were lost", got, lost)
	}
}
