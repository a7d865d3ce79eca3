package sqlstore

import (
	"context"
	"database/sql"
	"fmt"

	"sixin4/tsp/broker/store"
)

// CountLeases implements store.Store.
func (s *Store) CountLeases(ctx context.Context) (map[store.State]int, error) {
	q, err := s.reader()
	if err != nil {
		return nil, fmt.Errorf("count leases: %w", err)
	}
	counts := make(map[store.State]int)
	err = each(ctx, q, func(r *sql.Rows) error {
		var state store.State
		var n int
		err := r.Scan(&state, &n)
		counts[state] = n
		return err
	}, `SELECT state, COUNT(*) FROM leases GROUP BY state`)
	if err != nil {
		return nil, fmt.Errorf("count leases: %w", err)
	}
	return counts, nil
}
