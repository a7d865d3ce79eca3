package tsp

import (
	"container/list"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"
)

// Verdict is what a broker does with a control datagram.
type Verdict uint8

// The verdicts of [Replies.Check].
const (
	Fresh     Verdict = iota // run it, then call Answer
	Duplicate                // send the answer that comes with the verdict
	Pending                  // drop: it is being run
	Stale                    // drop: the client has had the answer and gone on
)

// Replies remembers the last answer to each client, so that a message that arrives
// twice is run once. A client asks one thing at a time: an earlier sequence number is
// an old datagram on a long way. The same number with another text is a new session
// on the same port. Any number of goroutines may use one.
type Replies struct {
	mu      sync.Mutex
	config  RepliesConfig
	clients map[netip.AddrPort]*list.Element
	order   list.List // of *lastReply, longest unused first
}

// RepliesConfig bounds what Replies remembers.
type RepliesConfig struct {
	Clients int           // remembered at a time, the longest unused goes first; 0 means 4096
	Keep    time.Duration // since the last message; 0 means 90 s, longer than a client repeats
}

// lastReply is the last message of one client.
type lastReply struct {
	from     netip.AddrPort
	sequence uint32
	question [sha256.Size]byte
	at       time.Time
	answered bool
	answer   []byte
}

// NewReplies makes an empty memory.
func NewReplies(c RepliesConfig) *Replies {
	if c.Clients <= 0 {
		c.Clients = 4096
	}
	if c.Keep <= 0 {
		c.Keep = 90 * time.Second
	}
	return &Replies{config: c, clients: make(map[netip.AddrPort]*list.Element)}
}

// Check says what to do with a datagram that arrived now. With Duplicate comes the
// datagram to send: the old answer under the new header. Echo requests belong to no
// session and are answered without asking.
func (r *Replies) Check(now time.Time, from netip.AddrPort, h Header, text []byte) (Verdict, []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	question := sha256.Sum256(text)
	if e := r.clients[from]; e != nil {
		last := e.Value.(*lastReply)
		switch ahead := (h.Sequence() - last.sequence) << 4; { // compare as 28 bits that wrap
		case ahead == 0 && last.question == question && last.answered:
			return Duplicate, h.Datagram(last.answer)
		case ahead == 0 && last.question == question:
			return Pending, nil
		case int32(ahead) < 0:
			return Stale, nil
		}
		r.remove(e)
	}
	r.clients[from] = r.order.PushBack(&lastReply{from: from, sequence: h.Sequence(), question: question, at: now})
	if len(r.clients) > r.config.Clients {
		r.remove(r.order.Front())
	}
	return Fresh, nil
}

// Answer is the datagram that answers a message with text, which is empty where a
// stream has no answer. It is remembered, unless the client has gone on meanwhile.
func (r *Replies) Answer(from netip.AddrPort, h Header, text []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.clients[from]; e != nil {
		if last := e.Value.(*lastReply); last.sequence == h.Sequence() {
			last.answered, last.answer = true, append([]byte(nil), text...)
		}
	}
	return h.Datagram(text)
}

// Forget drops what is known of a client.
func (r *Replies) Forget(from netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.clients[from]; e != nil {
		r.remove(e)
	}
}

func (r *Replies) expire(now time.Time) {
	for e := r.order.Front(); e != nil; e = r.order.Front() {
		if now.Sub(e.Value.(*lastReply).at) < r.config.Keep {
			return
		}
		r.remove(e)
	}
}

func (r *Replies) remove(e *list.Element) {
	r.order.Remove(e)
	delete(r.clients, e.Value.(*lastReply).from)
}
