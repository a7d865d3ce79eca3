package daemon

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"sixin4/encap/engine"
	"sixin4/encap/keepalive"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
)

// leases are the tunnels of a broker: it offers them, and has the engine carry those
// that were accepted. It is the broker's Provisioner.
//
//	Offer ──> Accept ──> unproven ──> proven ──> not heard for too long, and silent
//	                        │ no answer             when asked; expired, dropped, lost
//	                        v                          │ to another broker
//	                      gone <──────────────────────┘
//
// What changes here the task run hands to the engine: only what has changed, in one
// step for however many changes there were meanwhile.
type leases struct {
	b         *brokerage
	changed   chan struct{}                                                  // holds one when the engine does not know all yet
	doubted   chan struct{}                                                  // the same for doubts
	unproven  unproven                                                       // what was given to nobody
	wanderers wanderers                                                      // who seem to be elsewhere
	debts     debts                                                          // what the store does not know yet
	writes    writes                                                         // whether the store takes changes
	asks      func(ctx context.Context, l *liveLease, in time.Duration) bool // answers
	asker     *keepalive.Asker                                               // of all proofs; set once there is a device

	mu      sync.Mutex
	dirty   map[engine.End]bool // ends that the engine knows otherwise
	fresh   []*liveLease        // to be asked once the engine knows them
	doubts  []*liveLease        // that have to show where they are
	byID    map[string]*liveLease
	byOuter map[engine.End]*liveLease // no two tunnels can have one end
	users   map[string]int            // how many tunnels a user has
	few     few                       // that peers has returned last
}

// liveLease is a tunnel that is carried. The store's lease in it is never changed.
type liveLease struct {
	store.Lease
	socket  uint16    // of lanes.udp, over UDP
	merged  bool      // as in the lease, unless a later session at this end denied it
	since   time.Time // accepted, or found there when asked
	proven  bool
	resumed bool      // of the run before: has until Silence to show that it is there
	asked   int       // echo requests in a row without an answer
	asking  bool      // it is in doubts, or being asked
	heard   time.Time // as the store knows it
	again   bool      // the engine has refused it once
	gone    bool
}

func newLeases(b *brokerage) *leases {
	t := &leases{
		b: b, changed: make(chan struct{}, 1), doubted: make(chan struct{}, 1), wanderers: newWanderers(),
		dirty: make(map[engine.End]bool), users: make(map[string]int),
		byID: make(map[string]*liveLease), byOuter: make(map[engine.End]*liveLease),
	}
	t.asks = t.answers
	return t
}

// A grant is a lease in one session.
func grantID(lease string, epoch int64) string { return fmt.Sprintf("%s/%d", lease, epoch) }

func parseGrant(id string) (lease string, epoch int64, err error) {
	id, _, _ = strings.Cut(strings.TrimPrefix(id, renewal), portMark)
	lease, text, _ := strings.Cut(id, "/")
	epoch, err = strconv.ParseInt(text, 10, 64)
	return lease, epoch, err
}

// Accept begins the session in the store, and then in the engine.
func (t *leases) Accept(ctx context.Context, g *broker.Grant) error {
	id, epoch, err := parseGrant(g.ID)
	if err != nil {
		return err
	}
	outer, local, merged := endOf(g)
	l, err := t.b.store.Activate(ctx, store.Activation{
		ID: id, Epoch: epoch, Node: t.b.node(), Type: g.Tunnel.Type,
		Outer: outer, Local: local, Merged: merged, Expires: time.Now().Add(t.b.cfg.AnonymousLease),
	})
	if err != nil {
		return t.unwritten(err)
	}
	t.written()
	t.put(l)
	t.askAgain(id)
	return nil
}

// askAgain has the client of a tunnel of the run before asked now: it has just spoken, and
// gets nothing until it is shown to be there. One that is new is asked in any case.
func (t *leases) askAgain(id string) {
	t.mu.Lock()
	l := t.byID[id]
	ask := l != nil && l.resumed && !l.proven && !l.asking
	t.mu.Unlock()
	if ask {
		t.doubt(l)
	}
}

// Close ends what nobody wants. A tunnel whose client has closed its connection lives
// on: its silence will tell.
func (t *leases) Close(g *broker.Grant, keep bool) {
	id, epoch, err := parseGrant(g.ID)
	if keep || err != nil || strings.HasPrefix(g.ID, renewal) {
		return
	}
	t.unproven.remove(id)
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	t.mu.Lock()
	l := t.byID[id]
	t.mu.Unlock()
	if l != nil && l.Epoch == epoch {
		t.deleted(ctx, l)
		return
	}
	if s, err := t.b.store.Lease(ctx, id); err == nil && s.UserID == "" && s.State == store.Offered {
		t.debts.pay(ctx, t.b, debt{id: id, epoch: s.Epoch, release: true})
	}
}

// storeTime bounds what the store may take for one thing.
const storeTime = 10 * time.Second

// put carries a lease, in place of an earlier session of the same, and of one that had
// the same outer address.
func (t *leases) put(s store.Lease) {
	t.carry(t.live(s))
}

// live is a lease as one that is carried from now on, by a socket that there is.
func (t *leases) live(s store.Lease) *liveLease {
	l := &liveLease{Lease: s, merged: s.Merged, since: time.Now(), heard: s.LastSeen}
	if socket, ok := t.b.beside.number(s.Local); ok && s.Outer.Port() != 0 {
		l.socket, l.Local = socket, t.b.beside.udp[socket].LocalAddr()
	}
	return l
}

// end is where a tunnel ends.
func (l *liveLease) end() engine.End { return engine.End{AddrPort: l.Outer, Socket: l.socket} }

// resume carries a lease of the run before, unless its client sends to where this broker
// does not listen any more. Where that is goes on record, if it is not.
func (t *leases) resume(s store.Lease) {
	l := t.live(s)
	l.resumed = true
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	if _, ok := t.b.beside.number(s.Local); s.Outer.Port() != 0 && !ok {
		t.retire(ctx, l, notHere(l))
		return
	}
	if l.Local != s.Local {
		if _, err := t.b.store.Activate(ctx, t.b.activation(l.Lease)); err != nil {
			t.b.env.Logger.Warn("the broker's end of a tunnel is not on record", "tunnel", l.ID, "err", err)
		}
	}
	t.carry(l)
}

func (t *leases) carry(l *liveLease) {
	t.mu.Lock()
	before := t.byID[l.ID]
	if before != nil && (before.Epoch > l.Epoch || before.Epoch == l.Epoch && before.end() == l.end()) {
		t.renew(before, l)
		t.mu.Unlock()
		return // a later session was faster, or it is a renewal
	}
	if before != nil {
		t.drop(before)
	}
	ousted := t.byOuter[l.end()]
	if ousted != nil {
		t.drop(ousted)
	}
	t.byID[l.ID], t.byOuter[l.end()] = l, l
	t.users[l.UserID]++
	t.fresh = append(t.fresh, l)
	t.dirty[l.end()] = true
	t.mu.Unlock()
	if ousted != nil {
		ctx, cancel := context.WithTimeout(context.Background(), storeTime)
		defer cancel()
		t.retire(ctx, ousted, "its outer address has another tunnel now")
	}
	t.notify()
}

// renew takes from a renewal of a session what may change by it: that the client does not
// take merged TCP. t.mu is held.
func (t *leases) renew(l, again *liveLease) {
	if l.Epoch == again.Epoch && l.merged && !again.merged {
		l.merged = false
		t.dirty[l.end()] = true
		t.notify()
	}
}

// drop forgets a tunnel, if it has not been; t.mu is held.
func (t *leases) drop(l *liveLease) {
	if l.gone {
		return
	}
	l.gone = true
	if t.byID[l.ID] == l {
		delete(t.byID, l.ID)
	}
	if t.byOuter[l.end()] == l {
		delete(t.byOuter, l.end())
	}
	if t.users[l.UserID]--; t.users[l.UserID] == 0 {
		delete(t.users, l.UserID)
	}
	t.dirty[l.end()] = true
	t.unproven.remove(l.ID)
}

// end takes a tunnel down. Its lease stays its owner's.
func (t *leases) end(ctx context.Context, l *liveLease, why string) {
	t.mu.Lock()
	was := !l.gone
	t.drop(l)
	t.mu.Unlock()
	if was {
		t.retire(ctx, l, why)
		t.notify()
	}
}

// retire puts the end of a tunnel on record. What nobody has shown to have is free
// again at once.
func (t *leases) retire(ctx context.Context, l *liveLease, why string) {
	free := l.UserID == "" && !l.proven && !l.resumed
	t.debts.pay(ctx, t.b, debt{id: l.ID, epoch: l.Epoch, release: free})
	t.b.env.Logger.Info("tunnel taken down", "lease", l.ID, "outer", outerText(l.Outer), "address", l.Client6, "reason", why)
}
