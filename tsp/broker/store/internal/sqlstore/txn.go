package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"

	"sixin4/tsp/broker/store"
)

// txn is one transaction, with what it does to the pool.
type txn struct {
	store *Store
	q     Queryer
	took  []netip.Prefix // to be free again when it is not committed
	gave  []netip.Prefix // to be free when it is
}

func (t *txn) undo() {
	if len(t.took) > 0 {
		t.store.space.free(t.took...)
	}
	t.took, t.gave = nil, nil
}

func (t *txn) commit() {
	if t.store.space != nil {
		t.store.space.keep(t.took)
		t.store.space.free(t.gave...)
	}
}

// lease is a row of leases, with its owner's.
type lease struct {
	store.Lease
	name     string // of the user; "" for nobody
	disabled bool   // the user is
}

// used reports whether it was ever up.
func (l *lease) used() bool { return !l.LastSeen.IsZero() }

func (l *lease) blocks() []netip.Prefix {
	blocks := []netip.Prefix{netip.PrefixFrom(l.Client6, 128)}
	if l.Prefix.IsValid() {
		blocks = append(blocks, l.Prefix)
	}
	return blocks
}

const (
	leaseColumns = `l.id, COALESCE(l.user_id, ''), l.client6, l.server6, COALESCE(l.prefix, ''), l.type, l.outer4,
		l.node, l.local4, l.merged, l.epoch, l.state, l.created, l.last_seen, l.expires, COALESCE(u.name, ''), COALESCE(u.disabled, FALSE)`
	selectLease = `SELECT ` + leaseColumns + ` FROM leases l LEFT JOIN users u ON u.id = l.user_id WHERE `
)

// scanLease reads leaseColumns.
func scanLease(r *sql.Rows) (lease, error) {
	var l lease
	var client6, server6, prefix, outer, local string
	var created, seen, expires int64
	err := r.Scan(&l.ID, &l.UserID, &client6, &server6, &prefix, &l.Type, &outer,
		&l.Node, &local, &l.Merged, &l.Epoch, &l.State, &created, &seen, &expires, &l.name, &l.disabled)
	if err != nil {
		return l, err
	}
	l.Created, l.LastSeen, l.Expires = timeOf(created), timeOf(seen), timeOf(expires)
	err = parse(client6, &l.Client6, netip.ParseAddr, err)
	err = parse(server6, &l.Server6, netip.ParseAddr, err)
	err = parse(prefix, &l.Prefix, netip.ParsePrefix, err)
	err = parse(outer, &l.Outer, netip.ParseAddrPort, err)
	err = parse(local, &l.Local, netip.ParseAddrPort, err)
	if err != nil {
		return l, fmt.Errorf("lease %s: %w", l.ID, err)
	}
	return l, nil
}

// parse reads text that is not empty, unless there was an error before.
func parse[T any](text string, to *T, with func(string) (T, error), before error) (err error) {
	if text == "" || before != nil {
		return before
	}
	*to, err = with(text)
	return err
}

// text is what parse reads.
func text[T interface {
	IsValid() bool
	String() string
}](v T) string {
	if !v.IsValid() {
		return ""
	}
	return v.String()
}

// null is NULL for empty text: what is not unique, or refers to nothing.
func null(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

// lease reads one that is to be changed. Others wait until the transaction ends.
func (t *txn) lease(ctx context.Context, id string) (l lease, err error) {
	err = one(ctx, t.q, func(r *sql.Rows) (err error) {
		l, err = scanLease(r)
		return err
	}, selectLease+`l.id = $1`+t.store.db.Lock("l"), id)
	return l, err
}

// leasesOf are those of a user, to be changed.
func (t *txn) leasesOf(ctx context.Context, userID string) ([]lease, error) {
	return collect(ctx, t.q, "leases", scanLease, selectLease+`l.user_id = $1 ORDER BY l.id`+t.store.db.Lock("l"), userID)
}

// insert adds a lease whose blocks are not yet any other's.
func (t *txn) insert(ctx context.Context, l *lease) error {
	for _, b := range l.blocks() {
		if err := t.store.db.AddBlock(ctx, t.q, b); err != nil {
			return err
		}
	}
	_, err := t.q.ExecContext(ctx, `INSERT INTO leases (id, user_id, client6, server6, prefix, type, outer4, node,
		epoch, state, created, changed, last_seen, expires)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13)`,
		l.ID, null(l.UserID), text(l.Client6), text(l.Server6), null(text(l.Prefix)), string(l.Type), text(l.Outer), l.Node,
		l.Epoch, string(l.State), micros(l.Created), micros(l.LastSeen), micros(l.Expires))
	return err
}

// update writes all of a lease but its blocks.
func (t *txn) update(ctx context.Context, l *lease) error {
	_, err := t.q.ExecContext(ctx, `UPDATE leases SET user_id = $2, server6 = $3, type = $4, outer4 = $5, node = $6,
		epoch = $7, state = $8, last_seen = $9, expires = $10, local4 = $11, merged = $12 WHERE id = $1`,
		l.ID, null(l.UserID), text(l.Server6), string(l.Type), text(l.Outer), l.Node,
		l.Epoch, string(l.State), micros(l.LastSeen), micros(l.Expires), text(l.Local), l.Merged)
	return err
}

// remove deletes a lease and frees its blocks.
func (t *txn) remove(ctx context.Context, l *lease) error {
	if _, err := t.q.ExecContext(ctx, `DELETE FROM leases WHERE id = $1`, l.ID); err != nil {
		return err
	}
	for _, b := range l.blocks() {
		if _, err := t.q.ExecContext(ctx, `DELETE FROM blocks WHERE block = $1`, blockText(b)); err != nil {
			return err
		}
	}
	t.gave = append(t.gave, l.blocks()...)
	return nil
}

// blockText is a block as the tables have it: an address without its length.
func blockText(b netip.Prefix) string {
	if b.IsSingleIP() {
		return b.Addr().String()
	}
	return b.String()
}

// BlockText is for the implementations of DB.AddBlock.
func BlockText(b netip.Prefix) string { return blockText(b) }

// end ends the session of a lease, if there is one.
func (t *txn) end(ctx context.Context, l lease) error {
	if l.State != store.Up {
		return nil
	}
	l.State = store.Down
	if err := t.update(ctx, &l); err != nil {
		return err
	}
	return t.log(ctx, store.Ended, &l)
}

// giveBack takes a lease from its owner.
func (t *txn) giveBack(ctx context.Context, l lease) error {
	if !l.used() {
		return t.remove(ctx, &l)
	}
	if err := t.log(ctx, store.Returned, &l); err != nil {
		return err
	}
	quarantine := t.store.cfg.Quarantine
	if quarantine < 0 {
		return t.remove(ctx, &l)
	}
	l.State, l.UserID, l.Expires = store.Quarantined, "", t.store.now().Add(quarantine)
	return t.update(ctx, &l)
}

// log writes a line about a lease as it is now.
func (t *txn) log(ctx context.Context, e store.Event, l *lease) error {
	now := t.store.now()
	var first, last any // NULL
	if l.Prefix.IsValid() {
		first, last = Span(l.Prefix)
	}
	addr := l.Client6.As16()
	_, err := t.q.ExecContext(ctx, `INSERT INTO history (id, at, event, lease_id, user_id, user_name, client6, prefix,
		addr, first, last, type, outer4, node)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		store.NewID(now), micros(now), string(e), l.ID, l.UserID, l.name, text(l.Client6), text(l.Prefix),
		addr[:], first, last, string(l.Type), text(l.Outer), l.Node)
	return err
}

// Span is the first and the last address of a block, as 16 bytes.
func Span(b netip.Prefix) (first, last []byte) {
	f := b.Addr().As16()
	l := f
	for bit := b.Bits(); bit < 128; bit++ {
		l[bit/8] |= 0x80 >> (bit % 8)
	}
	return f[:], l[:]
}
