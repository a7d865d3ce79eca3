package traffic

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// Place is where a socket is opened: *nstest.NS is one, and so is Local.
type Place interface {
	Do(func() error) error
}

// Local is the Place of the caller.
type Local struct{}

// Do calls fn.
func (Local) Do(fn func() error) error { return fn() }

// TransferResult tells of a transfer that came through.
type TransferResult struct {
	Bytes   int64
	Seconds float64           // from the connection to the last byte
	Sum     [sha256.Size]byte // SHA-256 of the payload, the same at both ends
}

// BitsPerSecond is the goodput.
func (r TransferResult) BitsPerSecond() float64 { return float64(r.Bytes) * 8 / r.Seconds }

// ErrContent is the cause of a transfer whose payload arrived changed.
var ErrContent = errors.New("the SHA-256 of what was received is not that of what was sent")

// transferTime bounds a transfer whose context has no deadline.
const transferTime = time.Minute

// Transfer sends size bytes of pseudo-random payload over one TCP connection
// from one place to addr in another, in this process, and compares the SHA-256
// of both ends. Hashing is not part of the time; for that both ends keep the
// whole payload in memory. Without a deadline in ctx it takes a minute at most.
func Transfer(ctx context.Context, from, to Place, addr netip.Addr, size int64) (TransferResult, error) {
	ctx, cancel := context.WithTimeout(ctx, transferTime) // an earlier deadline holds
	defer cancel()
	result, err := transfer(ctx, from, to, addr, size)
	return result, opErr(ctx, fmt.Sprintf("transfer of %d bytes to %v", size, addr), err)
}

func transfer(ctx context.Context, from, to Place, addr netip.Addr, size int64) (TransferResult, error) {
	client, server, err := connection(ctx, from, to, addr)
	if err != nil {
		return TransferResult{}, err
	}
	conns := []net.Conn{client, server}
	defer closeAll(conns)
	defer context.AfterFunc(ctx, func() { closeAll(conns) })() // reads and writes then fail

	payload := pseudoRandom(size)
	sendErr := make(chan error, 1)
	got := make([]byte, size)
	start := time.Now()
	go func() {
		_, err := client.Write(payload)
		sendErr <- err
	}()
	n, err := io.ReadFull(server, got)
	took := time.Since(start)
	if err != nil {
		closeAll(conns) // so that the writer ends too
		return TransferResult{}, errors.Join(fmt.Errorf("after %d bytes: %w", n, err), <-sendErr)
	}
	if err := <-sendErr; err != nil {
		return TransferResult{}, err
	}
	sum, err := compare(payload, got)
	return TransferResult{Bytes: size, Seconds: took.Seconds(), Sum: sum}, err
}

// compare returns the sum of both, or ErrContent.
func compare(sent, got []byte) ([sha256.Size]byte, error) {
	sum := sha256.Sum256(sent)
	if sha256.Sum256(got) != sum {
		return sum, ErrContent
	}
	return sum, nil
}

// connection opens one TCP connection. Each socket is made in its place and can
// be used anywhere.
func connection(ctx context.Context, from, to Place, addr netip.Addr) (client, server net.Conn, err error) {
	var listener *net.TCPListener
	err = to.Do(func() (err error) {
		listener, err = ListenTCP(netip.AddrPortFrom(addr, 0))
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = listener.Close() }() // one connection is all it was for
	err = from.Do(func() (err error) {
		client, err = new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	// The client is connected, so its other end waits here, or comes at once.
	err = listener.SetDeadline(time.Now().Add(slack))
	if err == nil {
		server, err = listener.Accept()
	}
	if err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	return client, server, nil
}

// pseudoRandom returns the same bytes for the same size: no piece of them
// repeats, so a lost, doubled or swapped piece changes the sum.
func pseudoRandom(size int64) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte([]byte("sixin4 transfer of known content"))).Read(b) // never fails
	return b
}
