package bench

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"
)

// echoEvery is the time between two requests.
const echoEvery = time.Millisecond

var errNoEcho = errors.New("no echo request through the tunnel was answered")

// Messages of ICMPv6 (RFC 4443, Sections 4.1 and 4.2; from memory).
const (
	echoRequest = 128
	echoReply   = 129
	echoHeader  = 8
)

// echoSocket asks a host that cannot be reached yet, until it answers.
type echoSocket struct {
	to     netip.Addr
	fd     int
	cookie [8]byte // in each request: other programs send some too
}

// openEcho makes a socket in the namespace of the calling thread. It needs
// CAP_NET_RAW.
func openEcho(to netip.Addr) (*echoSocket, error) {
	e := &echoSocket{to: to}
	for i := range e.cookie {
		e.cookie[i] = byte(rand.Uint32())
	}
	return e, e.open()
}

// message is a request; the kernel fills the checksum in.
func (e *echoSocket) message(seq uint16) []byte {
	m := make([]byte, echoHeader, echoHeader+len(e.cookie))
	m[0], m[6], m[7] = echoRequest, byte(seq>>8), byte(seq)
	return append(m, e.cookie[:]...)
}

// answers reports whether m is the reply to one of the requests.
func (e *echoSocket) answers(m []byte) bool {
	return len(m) > echoHeader && m[0] == echoReply && bytes.Equal(m[echoHeader:], e.cookie[:])
}

// answered sends a request every echoEvery, and returns when the first reply came.
func (e *echoSocket) answered(ctx context.Context) (time.Time, error) {
	for seq := uint16(0); ctx.Err() == nil; seq++ {
		if err := e.send(e.message(seq)); err != nil {
			return time.Time{}, err
		}
		m, err := e.receive(echoEvery)
		if err != nil {
			return time.Time{}, err
		}
		if e.answers(m) {
			return time.Now(), nil
		}
	}
	return time.Time{}, errNoEcho
}
