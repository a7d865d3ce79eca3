package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// relayBuffer is what is moved at a time in one direction, in bytes.
const relayBuffer = 64 << 10

var relayBuffers = sync.Pool{New: func() any { return new([relayBuffer]byte) }}

// relay moves bytes both ways until both directions have ended, or one has failed, or
// ctx ends, and closes both connections. The end of one direction is passed on as such
// and leaves the other one as it is; a failure is passed on as a reset, so that what is
// cut short does not look whole. from is what is read of a where that is not a itself.
func relay(ctx context.Context, a net.Conn, from io.Reader, b net.Conn) {
	defer closeWith(ctx, a)()
	defer closeWith(ctx, b)()
	var wg sync.WaitGroup
	move := func(to net.Conn, from io.Reader) {
		if err := flow(to, from); err != nil { // the other direction is of no use now
			_, _ = cut(a), cut(b)
		}
	}
	wg.Go(func() { move(b, from) })
	move(a, b)
	wg.Wait()
}

// flow copies one direction, and its end when it ended well. The wrappers keep io.Copy from looking for
// short cuts, which would allocate smaller buffers.
func flow(to net.Conn, from io.Reader) error {
	buf, _ := relayBuffers.Get().(*[relayBuffer]byte)
	defer relayBuffers.Put(buf)
	if _, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buf[:]); err != nil {
		return err
	}
	return closeWrite(to)
}

// cut closes c, with a reset where it can.
func cut(c io.Closer) error {
	setLinger(c)
	return c.Close()
}

// setLinger has a connection reset when it is closed.
func setLinger(c any) {
	if tcp, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
	}
}

// closeWrite ends the direction to c.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
