package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"time"

	"sixin4/tsp/broker/store"
)

func isGone(err error) bool { return errors.Is(err, store.ErrNotFound) }

const entryColumns = `id, at, event, lease_id, user_id, user_name, client6, prefix, type, outer4, node`

// scanEntry reads entryColumns.
func scanEntry(r *sql.Rows) (store.Entry, error) {
	var e store.Entry
	var at int64
	var client6, prefix, outer string
	err := r.Scan(&e.ID, &at, &e.Event, &e.LeaseID, &e.UserID, &e.UserName, &client6, &prefix, &e.Type, &outer, &e.Node)
	e.At = timeOf(at)
	err = parse(client6, &e.Client6, netip.ParseAddr, err)
	err = parse(prefix, &e.Prefix, netip.ParsePrefix, err)
	err = parse(outer, &e.Outer, netip.ParseAddrPort, err)
	return e, err
}

// Log implements store.Store.
func (s *Store) Log(ctx context.Context, query store.Query) iter.Seq2[store.Entry, error] {
	from, until := micros(query.From), int64(math.MaxInt64)
	if !query.Until.IsZero() {
		until = micros(query.Until)
	}
	return paged(func(last *store.Entry) ([]store.Entry, error) {
		id := ""
		if last != nil {
			from, id = micros(last.At), last.ID
		}
		q, err := s.reader()
		if err != nil {
			return nil, fmt.Errorf("log: %w", err)
		}
		where, args := about(query.Address)
		if query.Over {
			where += ` AND event <> 'began'`
		}
		args = append([]any{from, id, until, page}, args...)
		return collect(ctx, q, "log", scanEntry, `SELECT `+entryColumns+` FROM history
			WHERE (at > $1 OR at = $1 AND id > $2) AND at < $3`+where+` ORDER BY at, id LIMIT $4`, args...)
	})
}

// about is the condition on entries for an address, with parameters from $5 on. No
// prefix is shorter than /48, so one that an address is in begins in the address's /48,
// and the index finds it.
func about(addr netip.Addr) (where string, args []any) {
	if !addr.IsValid() {
		return "", nil
	}
	a := addr.As16()
	from := netip.PrefixFrom(addr, 48).Masked().Addr().As16()
	return ` AND (addr = $5 OR first >= $6 AND first <= $5 AND last >= $5)`, []any{a[:], from[:]}
}

// ForgetLog implements store.Store.
func (s *Store) ForgetLog(ctx context.Context, before time.Time) (int, error) {
	total := 0
	for {
		n := 0
		err := s.write(ctx, func(ctx context.Context, t *txn) error {
			var r sql.Result
			r, err := t.q.ExecContext(ctx, `DELETE FROM history WHERE id IN
				(SELECT id FROM history WHERE at < $1 ORDER BY at LIMIT $2)`, micros(before), touchAtOnce)
			if err != nil {
				return err
			}
			rows, err := r.RowsAffected()
			n = int(rows)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("forget log: %w", err)
		}
		if total += n; n < touchAtOnce {
			return total, nil
		}
	}
}
