package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"sixin4/tsp/broker/store"
)

// keyPlace and keyText are sealed in the table facts, to recognise the key.
const (
	keyPlace = "key check"
	keyText  = "sixin4"
)

// checkKey fails when another key was used before.
func (s *Store) checkKey(ctx context.Context) error {
	sealed, err := fact(ctx, s.db.Reader(), keyPlace)
	if errors.Is(err, store.ErrNotFound) {
		sealed, err = s.recordKey(ctx)
	}
	if err != nil {
		return err
	}
	if _, err := s.cfg.Key.Open(sealed, keyPlace); err != nil {
		return fmt.Errorf("the database was encrypted with another key: %w", err)
	}
	return nil
}

// recordKey writes the check, unless another process was faster: then it is that one's.
func (s *Store) recordKey(ctx context.Context) (sealed []byte, err error) {
	err = s.write(ctx, func(ctx context.Context, t *txn) error {
		if sealed, err = s.cfg.Key.Seal([]byte(keyText), keyPlace); err != nil {
			return err
		}
		_, err := t.q.ExecContext(ctx, `INSERT INTO facts (name, value) VALUES ($1, $2)`, keyPlace, sealed)
		return err
	})
	if errors.Is(err, ErrDuplicate) {
		return fact(ctx, s.db.Reader(), keyPlace)
	}
	return sealed, err
}

func fact(ctx context.Context, q Queryer, name string) (value []byte, err error) {
	err = one(ctx, q, func(r *sql.Rows) error { return r.Scan(&value) },
		`SELECT value FROM facts WHERE name = $1`, name)
	return value, err
}
