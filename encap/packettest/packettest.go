// Package packettest is what tests put in the place of a network: queues that are
// read and written like a TUN or a wire, a cable that treats packets badly, and
// builders of packets with right checksums (RFC 8200, Section 8.1; RFC 791,
// Section 3.1). It is imported by tests only.
//
// Nothing here sleeps or starts a goroutine, and all waiting is done on channels
// and timers, so that it works under testing/synctest.
package packettest

import (
	"bytes"
	"os"
	"sync"
	"time"

	"sixin4/encap/packet"
)

// Queue holds packets in memory from Write or Push until Read or Drain. It has
// one reader and any number of writers. The fields may be set before first use.
type Queue struct {
	// Fail is asked about each packet that Write is given. One that it returns an
	// error for gets that error as its Err and goes nowhere.
	Fail func(b []byte) error
	// Split, if greater than 0, is how many bytes of a packet Read puts into the
	// head, the rest into the payload, as a TUN does with super-packets. It must
	// cover all headers.
	Split int

	mu      sync.Mutex
	waiting []Entry // in the order in which they are due
	slots   [][]byte
	wake    chan struct{} // holds one token when there may be something new
	done    chan struct{}
	closed  bool
}

// Entry is a packet in a queue.
type Entry struct {
	Bytes []byte
	Seg   int        // as in packet.Packet
	Sum   packet.Sum // as in packet.Packet
	Err   error      // what Read sets as the packet's Err

	due time.Time // when it may be read
}

// NewQueue returns an empty queue.
func NewQueue() *Queue {
	return &Queue{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Push adds packets. A reader that waits gets as many in one batch as fit.
func (q *Queue) Push(packets ...[]byte) {
	entries := make([]Entry, len(packets))
	for i, b := range packets {
		entries[i] = Entry{Bytes: bytes.Clone(b)}
	}
	q.PushEntries(entries...)
}

// PushEntries is Push for packets that are not just bytes.
func (q *Queue) PushEntries(entries ...Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		q.insert(e)
	}
	q.signal()
}

// insert puts e behind everything that is due no later. q.mu is held.
func (q *Queue) insert(e Entry) {
	i := len(q.waiting)
	for i > 0 && q.waiting[i-1].due.After(e.due) {
		i--
	}
	q.waiting = append(q.waiting, Entry{})
	copy(q.waiting[i+1:], q.waiting[i:])
	q.waiting[i] = e
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Drain takes all packets out of the queue, those under way too.
func (q *Queue) Drain() []Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.waiting
	q.waiting = nil
	return all
}

// Write adds copies of the packets of b. After Close it returns os.ErrClosed and
// sets it as the Err of each packet.
func (q *Queue) Write(b *packet.Batch) (n int, err error) { return q.write(b, q.insert) }

// write hands each packet that is not refused to send, with q.mu held.
func (q *Queue) write(b *packet.Batch, send func(Entry)) (n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range b.Packets {
		p := &b.Packets[i]
		e := Entry{Bytes: p.AppendTo(nil), Seg: p.Seg, Sum: p.Sum}
		if p.Err = q.refuse(e.Bytes); p.Err == nil {
			send(e)
			n++
		} else if err == nil {
			err = p.Err
		}
	}
	q.signal()
	return n, err
}

func (q *Queue) refuse(b []byte) error {
	if q.closed {
		return os.ErrClosed
	}
	if q.Fail != nil {
		return q.Fail(b)
	}
	return nil
}

// Read waits for a packet that is due and replaces the contents of b. The packets
// are valid until the next Read, which uses their memory again. After Close it
// returns os.ErrClosed, whatever still waits.
func (q *Queue) Read(b *packet.Batch) error {
	for {
		b.Reset()
		wait, closed := q.take(b)
		switch {
		case closed:
			return os.ErrClosed
		case b.Len() > 0:
			return nil
		}
		q.wait(wait)
	}
}

// take fills b with what is due, and returns how long until something is; 0 is
// never.
func (q *Queue) take(b *packet.Batch) (wait time.Duration, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for len(q.waiting) > 0 && !b.Full() && !q.closed {
		e := q.waiting[0]
		if e.due.After(now) {
			return e.due.Sub(now), false
		}
		q.waiting = q.waiting[1:]
		q.set(b.Next(), b.Len()-1, e)
	}
	return 0, q.closed
}

// set makes p the packet e, in slot i.
func (q *Queue) set(p *packet.Packet, i int, e Entry) {
	for i >= len(q.slots) {
		q.slots = append(q.slots, make([]byte, packet.Headroom))
	}
	head, payload := e.Bytes, []byte(nil)
	if q.Split > 0 && len(head) > q.Split {
		head, payload = head[:q.Split], head[q.Split:]
	}
	q.slots[i] = append(q.slots[i][:packet.Headroom], head...)
	p.Set(q.slots[i], packet.Headroom, payload)
	p.Seg, p.Sum, p.Err = e.Seg, e.Sum, e.Err
}

func (q *Queue) wait(d time.Duration) {
	var due <-chan time.Time
	if d > 0 {
		due = time.After(d)
	}
	select {
	case <-q.wake:
	case <-q.done:
	case <-due:
	}
}

// Close ends a Read that waits. It is idempotent.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.done)
	}
	return nil
}
