package main

import (
	"net"
	"testing"
	"time"
)

// TestReadyPasses: the first packet after the ready line gets through, though a broker takes
// nothing from a client before it knows that the client is there.
func TestReadyPasses(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"v6v4", "v6anyv4", "v6udpv4"} {
		t.Run(mode, func(t *testing.T) {
			b := newRealBroker(t)
			b.begin()
			var server *net.UDPConn
			must(t, b.topo.B.Do(func() (err error) {
				server, err = net.ListenUDP("udp6", &net.UDPAddr{IP: net.ParseIP(brokerInside), Port: 7})
				return err
			}))
			defer server.Close()
			for range 3 {
				p := b.connect("--mode", mode)
				p.ready()
				must(t, b.topo.A.Do(func() error {
					c, err := net.Dial("udp6", server.LocalAddr().String())
					if err != nil {
						return err
					}
					defer c.Close()
					_, err = c.Write([]byte("word"))
					return err
				}))
				must(t, server.SetReadDeadline(time.Now().Add(3*time.Second)))
				if _, _, err := server.ReadFrom(make([]byte, 100)); err != nil {
					t.Errorf("the first packet was lost: %v", err)
				}
				p.stop()
			}
			b.process.stop()
		})
	}
}
