package daemon

import (
	"context"
	"crypto/rand"
	"net/netip"
	"sync"
	"time"

	"sixin4/encap"
)

// questions are echo requests to the far end of a tunnel in UDP. They leave by the socket
// of the tunnel and their answers are seen by its engine, so that no socket is needed for
// which the kernel wants a privilege. The zero value is not ready.
type questions struct {
	mu      sync.Mutex
	waiting map[nonce]question
}

// question is an echo request under way.
type question struct {
	from, to netip.Addr
	size     int // of the IPv6 packet, bytes
	answered chan struct{}
}

func newQuestions() *questions { return &questions{waiting: make(map[nonce]question)} }

// replied is for the engine: an echo reply has come in.
func (q *questions) replied(head encap.IPv6, size int) {
	if len(head) < echoLen {
		return
	}
	id := nonce(head[encap.IPv6HeaderLen+8:])
	q.mu.Lock()
	defer q.mu.Unlock()
	w, ok := q.waiting[id]
	if !ok || size != w.size || head.Src() != w.to || head.Dst() != w.from {
		return
	}
	delete(q.waiting, id)
	close(w.answered)
}

// ask sends an echo request of so many bytes, at least echoLen, and reports whether it was
// answered in time, and how soon.
func (q *questions) ask(ctx context.Context, send func([]byte) error, from, to netip.Addr, size int, timeout time.Duration) (time.Duration, bool) {
	var id nonce
	_, _ = rand.Read(id[:]) // never fails
	w := question{from: from, to: to, size: max(size, echoLen), answered: make(chan struct{})}
	q.mu.Lock()
	q.waiting[id] = w
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		delete(q.waiting, id)
		q.mu.Unlock()
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	begun := time.Now()
	_ = send(longEcho(from, to, id, w.size)) // what is not sent is not answered, and no sooner asked again
	select {
	case <-w.answered:
		return time.Since(begun), true
	case <-timer.C:
	case <-ctx.Done():
	}
	return 0, false
}
