package netstack

import (
	"io"
	"net"
	"testing"
)

// BenchmarkStream is one TCP connection between two devices back to back: all that
// the two stacks and their links cost, without a wire.
func BenchmarkStream(b *testing.B) {
	for _, size := range []struct {
		name string
		mtu  int
	}{{"1472", 1472}, {"65000", 65000}} {
		b.Run(size.name, func(b *testing.B) {
			p := newPair(b, Config{MTU: size.mtu}, nil, nil)
			l := listen(b, p.b, "[::]:80")
			got := make(chan net.Conn, 1)
			go func() {
				c, _ := l.Accept()
				got <- c
			}()
			out, err := p.a.DialContext(ctx(b), "tcp", at(addrB, 80))
			if err != nil {
				b.Fatal(err)
			}
			in := <-got
			const piece = 256 << 10
			done := make(chan int64, 1)
			go func() {
				n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, in, make([]byte, piece))
				done <- n
			}()
			buf := pattern(piece)
			b.SetBytes(piece)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := out.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			closeWrite(b, out)
			<-done
			s, r := p.a.Stats(), p.b.Stats()
			b.ReportMetric(float64(s.SplitInto)/float64(max(s.Split, 1)), "packets/segment")
			b.ReportMetric(float64(s.Overflow), "overflow")
			b.ReportMetric(float64(r.Joined)/float64(max(s.SplitInto, 1)), "joined/packet")
			_, _ = out.Close(), in.Close()
		})
	}
}
