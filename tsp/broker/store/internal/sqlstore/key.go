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

// sealed is a digest as it is stored.
type sealed struct {
	id, name string
	text     []byte
}

// ReplaceKey implements store.Store.
func (s *Store) ReplaceKey(ctx context.Context, old, new *store.Key) (lost []string, err error) {
	err = s.write(ctx, func(ctx context.Context, t *txn) error {
		lost = nil
		all, err := collect(ctx, t.q, "digests", func(r *sql.Rows) (x sealed, err error) {
			err = r.Scan(&x.id, &x.name, &x.text)
			return x, err
		}, `SELECT id, name, digest FROM users u WHERE digest IS NOT NULL ORDER BY name`+s.db.Lock("u"))
		if err != nil {
			return err
		}
		for _, x := range all {
			kept, err := t.reseal(ctx, x, old, new)
			if err != nil {
				return err
			}
			if !kept {
				lost = append(lost, x.name)
			}
		}
		return t.putKey(ctx, new)
	})
	if err != nil {
		return nil, fmt.Errorf("replace key: %w", err)
	}
	return lost, nil
}

// reseal encrypts a digest with another key, or forgets it when the old one does not
// open it.
func (t *txn) reseal(ctx context.Context, x sealed, old, new *store.Key) (kept bool, err error) {
	var digest any // NULL
	if text, err := old.Open(x.text, digestPlace(x.id)); err == nil {
		if digest, err = new.Seal(text, digestPlace(x.id)); err != nil {
			return false, err
		}
	}
	_, err = t.q.ExecContext(ctx, `UPDATE users SET digest = $2 WHERE id = $1`, x.id, digest)
	return digest != nil, err
}

// putKey writes the check for another key.
func (t *txn) putKey(ctx context.Context, k *store.Key) error {
	check, err := k.Seal([]byte(keyText), keyPlace)
	if err != nil {
		return err
	}
	if _, err := t.q.ExecContext(ctx, `DELETE FROM facts WHERE name = $1`, keyPlace); err != nil {
		return err
	}
	_, err = t.q.ExecContext(ctx, `INSERT INTO facts (name, value) VALUES ($1, $2)`, keyPlace, check)
	return err
}
