package broker

import (
	"container/list"
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker/account"
)

// flow is the session of an address and port.
type flow struct {
	number uint64 // of the session, from 1
	from   netip.AddrPort
	source netip.Addr
	ofs    *list.Element // in the list of its source
	begun  time.Time     // or came up; with the lock of the port
	last   atomic.Int64  // Unix time in ns when something was said
	busy   atomic.Bool   // a message is being run

	finished atomic.Bool // nothing is to come but goodbye
	stamps   []uint32    // of the VERSION lines that began it; for who receives

	mu      sync.Mutex
	session *session
	owed    []reply // that the client has not fetched yet
}

// rest is called when no message of a client, who may be new, is being run any more.
func (f *flow) rest() {
	if f != nil {
		f.busy.Store(false)
	}
}

// turn is what the order of a message is found by: the number of its session, and 0 for
// one that begins a session.
func (f *flow) turn(begins bool) uint64 {
	if begins || f == nil {
		return 0
	}
	return f.number
}

// maxStamps is how often a VERSION line is repeated at most.
const maxStamps = 8

// rested reports whether another session may begin: not by what began this one.
func (f *flow) rested(now time.Time, h tsp.Header) bool {
	if slices.Contains(f.stamps, h.Timestamp) {
		return false
	}
	return f.finished.Load() || now.UnixNano()-f.last.Load() >= int64(restAfter)
}

// find is the session of a client, nil for none.
func (d *port) find(from netip.AddrPort) *flow {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.sessions[from]; e != nil {
		return e.Value.(*flow)
	}
	return nil
}

// begin starts a session in place of the one that a client has.
func (d *port) begin(from netip.AddrPort, h tsp.Header) *flow {
	f := &flow{from: from, source: account.SourceOf(from.Addr()), begun: time.Now(), stamps: []uint32{h.Timestamp}}
	for _, old := range d.enter(f) {
		old.close()
	}
	return f
}

// enter adds a session and removes those that must go for it.
func (d *port) enter(f *flow) (old []*flow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.sessions[f.from]; e != nil {
		old = append(old, d.remove(e))
	}
	if same := d.sources[f.source]; same != nil && same.Len() >= d.config.Limits.SessionsPerSource {
		old = append(old, d.remove(d.sessions[same.Front().Value.(*flow).from]))
		d.drop(DropSessions)
	}
	if len(d.sessions) >= d.config.Limits.Sessions {
		old = append(old, d.remove(d.order.Front()))
		d.drop(DropSessions)
	}
	if d.sources[f.source] == nil {
		d.sources[f.source] = list.New()
	}
	d.begun++
	f.number = d.begun
	f.session = d.newSession(f.from, d.conn)
	f.ofs = d.sources[f.source].PushBack(f)
	d.sessions[f.from] = d.order.PushBack(f)
	return old
}

func (d *port) remove(e *list.Element) *flow {
	f := d.order.Remove(e).(*flow)
	delete(d.sessions, f.from)
	same := d.sources[f.source]
	if same.Remove(f.ofs); same.Len() == 0 {
		delete(d.sources, f.source)
	}
	return f
}

// close gives up what a session was offered and has not accepted. A tunnel that is
// up does not need it any more; early reports whether there is none.
func (f *flow) close() (early bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	early = f.session.state < up
	f.session.release(false)
	f.session.state = over
	return early
}

// renew gives a session its time anew: the answer to accept may get lost, and be asked
// for again.
func (d *port) renew(f *flow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.sessions[f.from]; e != nil && e.Value.(*flow) == f {
		f.begun = time.Now()
		d.order.MoveToBack(e)
	}
}

// janitor removes sessions that have had their time.
func (d *port) janitor(ctx context.Context) {
	every := max(d.config.Limits.Session/8, time.Second)
	for pause(ctx, every) == nil {
		for _, f := range d.expired(time.Now().Add(-d.config.Limits.Session)) {
			if f.close() {
				d.drop(DropSlow)
			}
		}
	}
}

func (d *port) expired(before time.Time) (old []*flow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for e := d.order.Front(); e != nil && e.Value.(*flow).begun.Before(before); e = d.order.Front() {
		old = append(old, d.remove(e))
	}
	return old
}

// closeAll ends all sessions.
func (d *port) closeAll() {
	for _, f := range d.expired(time.Now().Add(time.Hour)) {
		f.close()
	}
}
