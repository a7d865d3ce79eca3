package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"sixin4/tsp/broker/store"
)

const (
	signupColumns = `s.id, s.name, s.email, s.token, s.approved, s.prefix_len, s.max_tunnels, s.created, s.expires,
		s.source, s.mailed, s.opened`
	selectSignup = `SELECT ` + signupColumns + ` FROM signups s WHERE `
)

// tokenSize is that of SHA-256.
const tokenSize = 32

// scanSignup reads signupColumns.
func scanSignup(r *sql.Rows) (store.Signup, error) {
	var s store.Signup
	var created, expires int64
	err := r.Scan(&s.ID, &s.Name, &s.Email, &s.Token, &s.Approved, &s.PrefixLen, &s.MaxTunnels, &created, &expires,
		&s.Source, &s.Mailed, &s.Opened)
	s.Created, s.Expires = timeOf(created), timeOf(expires)
	return s, err
}

// checkSignup refuses what could not become a user.
func checkSignup(s store.Signup) error {
	switch {
	case len(s.Token) != tokenSize:
		return fmt.Errorf("token of %d bytes", len(s.Token))
	case s.Expires.IsZero():
		return errors.New("no expiry")
	case len(s.Source) > 64 || !plain(s.Source):
		return fmt.Errorf("source %q", s.Source)
	case s.Mailed && s.Email == "":
		return errors.New("no e-mail that the secret was sent to")
	}
	return checkUser(store.User{Name: s.Name, Email: s.Email, PrefixLen: s.PrefixLen, MaxTunnels: s.MaxTunnels})
}

// AddSignup implements store.Signups.
func (s *Store) AddSignup(ctx context.Context, v store.Signup) (store.Signup, error) {
	now := s.now()
	v.ID, v.Created, v.Expires = store.NewID(now), timeOf(micros(now)), timeOf(micros(v.Expires))
	err := checkSignup(v)
	if err == nil {
		err = s.write(ctx, func(ctx context.Context, t *txn) error { return t.addSignup(ctx, v) })
	}
	if err != nil {
		return store.Signup{}, fmt.Errorf("add sign-up %q: %w", v.Name, exists(err))
	}
	return v, nil
}

func (t *txn) addSignup(ctx context.Context, v store.Signup) error {
	if _, err := t.q.ExecContext(ctx, `DELETE FROM signups WHERE expires <= $1`, micros(v.Created)); err != nil {
		return err
	}
	if err := t.makeRoom(ctx, false, v.Source); err != nil {
		return err
	}
	_, err := t.q.ExecContext(ctx, `INSERT INTO signups (id, name, email, token, approved, prefix_len, max_tunnels, created, expires,
			source, mailed, opened)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		v.ID, v.Name, v.Email, v.Token, v.Approved, v.PrefixLen, v.MaxTunnels, micros(v.Created), micros(v.Expires),
		v.Source, v.Mailed, v.Opened)
	return err
}

// bounded are sign-ups that may have to go for others; whom the operator has approved
// has a word of the operator. Its parameter is whether they were opened.
const bounded = `(s.mailed OR NOT s.approved) AND s.opened = $1`

// makeRoom forgets one for another that comes: the oldest of the same source when that
// has enough, or else, when there are too many, of the source that has most.
func (t *txn) makeRoom(ctx context.Context, opened bool, source string) error {
	all, own := 0, 0
	err := one(ctx, t.q, func(r *sql.Rows) error { return r.Scan(&all, &own) },
		`SELECT COUNT(*), COUNT(CASE WHEN s.source = $2 THEN 1 END) FROM signups s WHERE `+bounded, opened, source)
	switch {
	case err != nil:
		return err
	case own >= t.store.cfg.SignupsOfSource:
	case all < t.store.cfg.Signups:
		return nil
	default:
		err = one(ctx, t.q, func(r *sql.Rows) error { return r.Scan(&source) },
			`SELECT s.source FROM signups s WHERE `+bounded+` GROUP BY s.source ORDER BY COUNT(*) DESC, MIN(s.id) LIMIT 1`, opened)
		if err != nil {
			return err
		}
	}
	_, err = t.q.ExecContext(ctx, `DELETE FROM signups WHERE id =
		(SELECT MIN(s.id) FROM signups s WHERE `+bounded+` AND s.source = $2)`, opened, source)
	return err
}

// OpenSignup implements store.Signups.
func (s *Store) OpenSignup(ctx context.Context, id string) error {
	err := s.write(ctx, func(ctx context.Context, t *txn) error {
		if !plain(id) {
			return store.ErrNotFound
		}
		v, err := s.signupWhere(ctx, t.q, `s.id = $1`+s.db.Lock("s"), id)
		if err != nil || v.Opened {
			return err
		}
		if err := t.makeRoom(ctx, true, v.Source); err != nil {
			return err
		}
		_, err = t.q.ExecContext(ctx, `UPDATE signups SET opened = $2 WHERE id = $1`, id, true)
		return err
	})
	if err != nil {
		return fmt.Errorf("open sign-up %s: %w", id, err)
	}
	return nil
}

// signupWhere finds one that has not expired.
func (s *Store) signupWhere(ctx context.Context, q Queryer, where string, arg any) (v store.Signup, err error) {
	err = one(ctx, q, func(r *sql.Rows) (err error) {
		v, err = scanSignup(r)
		return err
	}, selectSignup+`s.expires > $2 AND `+where, arg, micros(s.now()))
	return v, err
}

// SignupByToken implements store.Signups.
func (s *Store) SignupByToken(ctx context.Context, token []byte) (v store.Signup, err error) {
	q, err := s.reader()
	if err == nil {
		v, err = s.signupWhere(ctx, q, `s.token = $1`, notNil(token))
	}
	if err != nil {
		return store.Signup{}, fmt.Errorf("sign-up: %w", err)
	}
	return v, nil
}

// Signups implements store.Signups.
func (s *Store) Signups(ctx context.Context) iter.Seq2[store.Signup, error] {
	return paged(func(last *store.Signup) ([]store.Signup, error) {
		after := ""
		if last != nil {
			after = last.ID
		}
		q, err := s.reader()
		if err != nil {
			return nil, fmt.Errorf("sign-ups: %w", err)
		}
		return collect(ctx, q, "sign-ups", scanSignup,
			selectSignup+`s.id > $1 AND s.expires > $2 ORDER BY s.id LIMIT $3`, after, micros(s.now()), page)
	})
}

// ApproveSignup implements store.Signups.
func (s *Store) ApproveSignup(ctx context.Context, v store.Signup) (done store.Signup, err error) {
	err = s.write(ctx, func(ctx context.Context, t *txn) error {
		if !plain(v.ID) {
			return store.ErrNotFound
		}
		if done, err = s.signupWhere(ctx, t.q, `s.id = $1`+s.db.Lock("s"), v.ID); err != nil {
			return err
		}
		_, err := s.userWhere(ctx, t.q, `u.name = $1`, done.Name)
		if !errors.Is(err, store.ErrNotFound) {
			return errors.Join(err, store.ErrExists)
		}
		done.Approved, done.PrefixLen, done.MaxTunnels, done.Expires = true, v.PrefixLen, v.MaxTunnels, timeOf(micros(v.Expires))
		if err := checkSignup(done); err != nil {
			return err
		}
		_, err = t.q.ExecContext(ctx, `UPDATE signups SET approved = $2, prefix_len = $3, max_tunnels = $4, expires = $5 WHERE id = $1`,
			done.ID, true, done.PrefixLen, done.MaxTunnels, micros(done.Expires))
		return err
	})
	if err != nil {
		return store.Signup{}, fmt.Errorf("approve sign-up %s: %w", v.ID, err)
	}
	return done, nil
}

// RemoveSignup implements store.Signups.
func (s *Store) RemoveSignup(ctx context.Context, id string) error {
	err := s.write(ctx, func(ctx context.Context, t *txn) error { return t.removeSignup(ctx, id) })
	if err != nil {
		return fmt.Errorf("remove sign-up %s: %w", id, err)
	}
	return nil
}

func (t *txn) removeSignup(ctx context.Context, id string) error {
	if !plain(id) { // whatever somebody has sent
		return store.ErrNotFound
	}
	r, err := t.q.ExecContext(ctx, `DELETE FROM signups WHERE id = $1`, id)
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		err = store.ErrNotFound
	}
	return err
}

// Redeem implements store.Signups.
func (s *Store) Redeem(ctx context.Context, token []byte, u store.User) (store.User, error) {
	now := s.now()
	u.ID, u.Created = store.NewID(now), timeOf(micros(now))
	redeem := func(ctx context.Context, t *txn) error {
		v, err := s.signupWhere(ctx, t.q, `s.approved AND s.token = $1`+s.db.Lock("s"), notNil(token))
		if err != nil {
			return err
		}
		u.Name, u.Email, u.PrefixLen, u.MaxTunnels, u.Confirmed = v.Name, v.Email, v.PrefixLen, v.MaxTunnels, v.Mailed
		if err := t.removeSignup(ctx, v.ID); err != nil {
			return err
		}
		return t.addUser(ctx, u)
	}
	err := s.write(ctx, redeem)
	if errors.Is(err, ErrDuplicate) { // somebody was faster; now it shows whether by name or e-mail
		err = s.write(ctx, redeem)
	}
	if err != nil {
		return store.User{}, fmt.Errorf("redeem: %w", exists(err))
	}
	return u, nil
}
