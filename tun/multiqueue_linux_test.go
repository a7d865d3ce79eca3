package tun

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"sixin4/encap/packet"
	"sixin4/tun/nstest"
)

// TestQueuesStayInUse: the kernel hands out a flow's packets at the queue at which
// they came in. Flows that are answered must still use more than one.
func TestQueuesStayInUse(t *testing.T) {
	const queues, flows, deadline = 4, 32, 10 * time.Second
	ns := nstest.Open(t)
	d := open(t, ns, Config{Name: "mq0", Queues: queues}, "2001:db8::1/64")
	used := make(chan int, 8*flows)
	for q := range queues {
		go func() {
			b := packet.NewBatch(BatchSize)
			for d.Reader(q).Read(b) == nil {
				for i := range b.Packets {
					if whole(&b.Packets[i])[6] == protoUDP {
						used <- q
					}
				}
			}
		}()
	}
	w := d.NewWriter()
	from, to := net.ParseIP("2001:db8::2"), net.ParseIP("2001:db8::1")
	for n := range flows {
		var c net.PacketConn
		if err := ns.Do(func() (err error) {
			c, err = net.ListenPacket("udp6", (&net.UDPAddr{IP: to, Port: 6000 + n}).String())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		in := udp6([]byte("hello"), func(b []byte) {
			copy(b[8:], from)
			copy(b[24:], to)
			binary.BigEndian.PutUint16(b[40:], 5000)
			binary.BigEndian.PutUint16(b[42:], uint16(6000+n))
		})
		if _, err := w.Write(batchOf(in)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.WriteTo([]byte("out"), &net.UDPAddr{IP: from, Port: 5000}); err != nil {
			t.Fatal(err)
		}
	}
	var count [queues]int
	timeout := time.After(deadline)
	for range flows {
		select {
		case q := <-used:
			count[q]++
		case <-timeout:
			t.Fatalf("only %v packets came out", count)
		}
	}
	for q, n := range count {
		if n == 0 {
			t.Errorf("no flow of %d uses queue %d: %v", flows, q, count)
		}
	}
}
