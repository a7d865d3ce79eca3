package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"sixin4/tsp/broker/store"
)

// AddReset implements store.Resets.
func (s *Store) AddReset(ctx context.Context, v store.Reset) error {
	var err error
	switch {
	case len(v.Token) != tokenSize:
		err = fmt.Errorf("token of %d bytes", len(v.Token))
	case v.Expires.IsZero():
		err = errors.New("no expiry")
	default:
		err = s.write(ctx, func(ctx context.Context, t *txn) error { return t.addReset(ctx, v) })
	}
	if err != nil {
		return fmt.Errorf("add reset: %w", exists(err))
	}
	return nil
}

// addReset has the row of the user locked, so that two at a time do not both find room.
func (t *txn) addReset(ctx context.Context, v store.Reset) error {
	if !plain(v.UserID) {
		return store.ErrNotFound
	}
	if _, err := t.store.userWhere(ctx, t.q, `u.id = $1`+t.store.db.Lock("u"), v.UserID); err != nil {
		return err
	}
	now := t.store.now()
	_, err := t.q.ExecContext(ctx, `DELETE FROM resets WHERE expires <= $1`, micros(now))
	if err != nil {
		return err
	}
	_, err = t.q.ExecContext(ctx, `DELETE FROM resets WHERE user_id = $1 AND id NOT IN
		(SELECT id FROM resets WHERE user_id = $1 ORDER BY id DESC LIMIT $2)`, v.UserID, store.MaxResets-1)
	if err != nil {
		return err
	}
	_, err = t.q.ExecContext(ctx, `INSERT INTO resets (id, user_id, token, expires) VALUES ($1, $2, $3, $4)`,
		store.NewID(now), v.UserID, v.Token, micros(v.Expires))
	return err
}

// resetUser finds whose password may be changed by a token.
func (s *Store) resetUser(ctx context.Context, q Queryer, token []byte) (id string, err error) {
	err = one(ctx, q, func(r *sql.Rows) error { return r.Scan(&id) },
		`SELECT user_id FROM resets WHERE token = $1 AND expires > $2`, notNil(token), micros(s.now()))
	return id, err
}

// UserByReset implements store.Resets.
func (s *Store) UserByReset(ctx context.Context, token []byte) (u store.User, err error) {
	q, err := s.reader()
	id := ""
	if err == nil {
		id, err = s.resetUser(ctx, q, token)
	}
	if err == nil {
		u, err = s.userWhere(ctx, q, `u.id = $1`, id)
	}
	if err != nil {
		return store.User{}, fmt.Errorf("reset: %w", err)
	}
	return u, nil
}

// Reset implements store.Resets. It looks once more when it has the row of the user: of
// two with the same token one is late.
func (s *Store) Reset(ctx context.Context, token []byte, change func(*store.User) error) (u store.User, err error) {
	err = s.write(ctx, func(ctx context.Context, t *txn) error {
		id, err := s.resetUser(ctx, t.q, token)
		if err != nil {
			return err
		}
		if _, err := s.userWhere(ctx, t.q, `u.id = $1`+s.db.Lock("u"), id); err != nil {
			return err
		}
		if _, err := s.resetUser(ctx, t.q, token); err != nil {
			return err
		}
		if err := t.forgetResets(ctx, id); err != nil {
			return err
		}
		u, err = t.changeUser(ctx, id, change)
		return err
	})
	if err != nil {
		return store.User{}, fmt.Errorf("reset: %w", exists(err))
	}
	return u, nil
}

func (t *txn) forgetResets(ctx context.Context, userID string) error {
	_, err := t.q.ExecContext(ctx, `DELETE FROM resets WHERE user_id = $1`, userID)
	return err
}
