package broker

import (
	"container/list"
	"net"
	"net/netip"
	"time"
)

// conn is a TCP connection that costs no buffer while it is silent. It gives its
// reader one byte at a time, so that a tsp.Stream holds nothing that was not used, and
// may be thrown away between two messages.
type conn struct {
	net.Conn
	source netip.Addr
	head   []byte // read, but not used
	buf    []byte
	one    [1]byte

	place *list.Element // of the gate, with its lock
	list  *list.List
}

// bufferSize is what one read of a busy connection brings.
const bufferSize = 2048

// wait waits for the first byte of a message until the deadline, zero for ever.
func (c *conn) wait(deadline time.Time) error {
	if len(c.head) > 0 {
		return nil
	}
	c.buf = nil
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	for {
		n, err := c.Conn.Read(c.one[:])
		if n == 1 {
			c.head = c.one[:]
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if len(c.head) == 0 {
		if c.buf == nil {
			c.buf = make([]byte, bufferSize)
		}
		n, err := c.Conn.Read(c.buf)
		if n == 0 {
			return 0, err
		}
		c.head = c.buf[:n]
	}
	b[0], c.head = c.head[0], c.head[1:]
	return 1, nil
}

// Bounds of what is read behind the last word, so that it does not get lost: a socket
// that is closed with something unread takes back what it has sent.
const (
	lingerTime  = time.Second
	lingerReads = 16
)

// linger gives the client time to take the last word.
func (c *conn) linger() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	if c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	buf := make([]byte, bufferSize)
	for range lingerReads {
		if _, err := c.Conn.Read(buf); err != nil {
			return
		}
	}
}
