package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

// page is how many rows are read at once: a reader must not keep the database busy
// while its caller does something else.
const page = 250

const userColumns = `u.id, u.name, u.salt, u.iterations, u.stored_key, u.server_key, u.digest, u.legacy,
	u.mechanisms, u.prefix_len, u.max_tunnels, u.disabled, u.created, u.email, u.is_operator, u.confirmed`

// scanUser reads userColumns.
func (s *Store) scanUser(r *sql.Rows) (store.User, error) {
	var u store.User
	var digest []byte
	var mechanisms sql.NullString
	var created int64
	err := r.Scan(&u.ID, &u.Name, &u.Scram.Salt, &u.Scram.Iterations, &u.Scram.StoredKey, &u.Scram.ServerKey,
		&digest, &u.Legacy, &mechanisms, &u.PrefixLen, &u.MaxTunnels, &u.Disabled, &created, &u.Email, &u.Operator, &u.Confirmed)
	if err != nil {
		return u, err
	}
	u.Created = timeOf(created)
	if mechanisms.Valid {
		u.Mechanisms = strings.Fields(mechanisms.String)
	}
	u.Digest, err = s.openDigest(u.ID, digest)
	return u, err
}

// digestPlace is where the digest of a user belongs, for Key.Seal.
func digestPlace(id string) string { return "digest of " + id }

// openDigest decrypts; without a key there is none.
func (s *Store) openDigest(id string, sealed []byte) (*sasl.Digest, error) {
	if len(sealed) == 0 || s.cfg.Key == nil {
		return nil, nil
	}
	text, err := s.cfg.Key.Open(sealed, digestPlace(id))
	if err != nil {
		return nil, err
	}
	var d sasl.Digest
	if copy(d[:], text) != len(d) {
		return nil, fmt.Errorf("digest of %d bytes", len(text))
	}
	return &d, nil
}

// checkUser refuses what no user can be.
func checkUser(u store.User) error {
	switch {
	case u.Name == "" || len(u.Name) > 253:
		return fmt.Errorf("name of %d bytes", len(u.Name))
	case !plain(u.Name):
		return errors.New("name is not UTF-8, or has control characters")
	case len(u.Email) > 254 || !plain(u.Email) || u.Email != strings.ToLower(u.Email):
		return fmt.Errorf("e-mail %q", u.Email)
	case u.Confirmed && u.Email == "":
		return errors.New("no e-mail to be confirmed")
	case slices.ContainsFunc(u.Mechanisms, func(m string) bool { return m == "" || !plain(m) || strings.Contains(m, " ") }):
		return fmt.Errorf("mechanisms %q", u.Mechanisms)
	case u.PrefixLen != 0 && (u.PrefixLen < 48 || u.PrefixLen > 64):
		return fmt.Errorf("prefix length %d", u.PrefixLen)
	case u.MaxTunnels < 0 || u.MaxTunnels > math.MaxInt32:
		return fmt.Errorf("at most %d tunnels", u.MaxTunnels)
	case u.Digest != nil && !u.Legacy:
		return errors.New("a digest without legacy login")
	}
	return nil
}

// plain reports whether a text is one that every database takes.
func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// userArgs are the values of userColumns.
func (s *Store) userArgs(u store.User) ([]any, error) {
	if err := checkUser(u); err != nil {
		return nil, err
	}
	var digest any // NULL
	if u.Digest != nil {
		sealed, err := s.cfg.Key.Seal(u.Digest[:], digestPlace(u.ID))
		if err != nil {
			return nil, err
		}
		digest = sealed
	}
	mechanisms := sql.NullString{String: strings.Join(u.Mechanisms, " "), Valid: u.Mechanisms != nil}
	return []any{u.ID, u.Name, notNil(u.Scram.Salt), u.Scram.Iterations, notNil(u.Scram.StoredKey), notNil(u.Scram.ServerKey),
		digest, u.Legacy, mechanisms, u.PrefixLen, u.MaxTunnels, u.Disabled, micros(u.Created), u.Email, u.Operator, u.Confirmed}, nil
}

// notNil is b, but never nil, which would be NULL.
func notNil(b []byte) []byte { return append([]byte{}, b...) }

// AddUser implements store.Store.
func (s *Store) AddUser(ctx context.Context, u store.User) (store.User, error) {
	now := s.now()
	u.ID, u.Created = store.NewID(now), timeOf(micros(now))
	err := s.write(ctx, func(ctx context.Context, t *txn) error { return t.addUser(ctx, u) })
	if err != nil {
		return store.User{}, fmt.Errorf("add user %q: %w", u.Name, exists(err))
	}
	return u, nil
}

// addUser writes a user that is complete.
func (t *txn) addUser(ctx context.Context, u store.User) error {
	args, err := t.store.userArgs(u)
	if err == nil {
		err = t.checkEmail(ctx, u)
	}
	if err != nil {
		return err
	}
	_, err = t.q.ExecContext(ctx, `INSERT INTO users (id, name, salt, iterations, stored_key, server_key, digest,
		legacy, mechanisms, prefix_len, max_tunnels, disabled, created, email, is_operator, confirmed)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`, args...)
	return err
}

// checkEmail refuses an e-mail that another user has confirmed. Of two that do so at the
// same moment the database refuses one.
func (t *txn) checkEmail(ctx context.Context, u store.User) error {
	if !u.Confirmed {
		return nil
	}
	_, err := t.store.userWhere(ctx, t.q, `u.email = $1 AND u.confirmed AND u.id <> $2`, u.Email, u.ID)
	switch {
	case err == nil:
		return store.ErrEmail
	case errors.Is(err, store.ErrNotFound):
		return nil
	}
	return err
}

// exists says of a duplicate that it exists.
func exists(err error) error {
	if errors.Is(err, ErrDuplicate) {
		return store.ErrExists
	}
	return err
}

// User implements store.Store.
func (s *Store) User(ctx context.Context, id string) (store.User, error) {
	return s.findUser(ctx, "u.id", id)
}

// UserByName implements store.Store.
func (s *Store) UserByName(ctx context.Context, name string) (store.User, error) {
	return s.findUser(ctx, "u.name", name)
}

// findUser finds the one whose column is a value.
func (s *Store) findUser(ctx context.Context, column, value string) (u store.User, err error) {
	q, err := s.reader()
	switch {
	case err != nil:
	case !plain(value): // whatever somebody has sent: nobody is called that
		err = store.ErrNotFound
	default:
		u, err = s.userWhere(ctx, q, column+` = $1`, value)
	}
	if err != nil {
		return store.User{}, fmt.Errorf("user %q: %w", value, err)
	}
	return u, nil
}

func (s *Store) userWhere(ctx context.Context, q Queryer, where string, args ...any) (u store.User, err error) {
	err = one(ctx, q, func(r *sql.Rows) (err error) {
		u, err = s.scanUser(r)
		return err
	}, `SELECT `+userColumns+` FROM users u WHERE `+where, args...)
	return u, err
}

// Users implements store.Store.
func (s *Store) Users(ctx context.Context) iter.Seq2[store.User, error] {
	return paged(func(last *store.User) ([]store.User, error) {
		after := ""
		if last != nil {
			after = last.Name
		}
		q, err := s.reader()
		if err != nil {
			return nil, fmt.Errorf("users: %w", err)
		}
		return collect(ctx, q, "users", s.scanUser,
			`SELECT `+userColumns+` FROM users u WHERE u.name > $1 ORDER BY u.name LIMIT $2`, after, page)
	})
}

// collect scans all rows.
func collect[T any](ctx context.Context, q Queryer, op string, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	var all []T
	err := each(ctx, q, func(r *sql.Rows) error {
		v, err := scan(r)
		all = append(all, v)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return all, nil
}

// paged goes through all pages; next gets the last value of the page before.
func paged[T any](next func(last *T) ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var last *T
		for {
			values, err := next(last)
			if err != nil {
				yield(*new(T), err)
				return
			}
			for _, v := range values {
				if !yield(v, nil) {
					return
				}
			}
			if len(values) < page {
				return
			}
			last = &values[len(values)-1]
		}
	}
}

// UpdateUser implements store.Store.
func (s *Store) UpdateUser(ctx context.Context, id string, change func(*store.User) error) (u store.User, err error) {
	err = s.write(ctx, func(ctx context.Context, t *txn) error {
		u, err = t.changeUser(ctx, id, change)
		return err
	})
	if err != nil {
		return store.User{}, fmt.Errorf("update user %s: %w", id, exists(err))
	}
	return u, nil
}

func (t *txn) changeUser(ctx context.Context, id string, change func(*store.User) error) (store.User, error) {
	u, err := t.store.userWhere(ctx, t.q, `u.id = $1`+t.store.db.Lock("u"), id)
	if err != nil {
		return u, err
	}
	old := u
	old.Scram.StoredKey = bytes.Clone(u.Scram.StoredKey)
	if err := change(&u); err != nil {
		return u, err
	}
	u.ID, u.Created = id, old.Created
	return u, t.putUser(ctx, u, bytes.Equal(u.Scram.StoredKey, old.Scram.StoredKey))
}

// putUser writes a user that is there. The digest that cannot be read without a key
// stays, but only with legacy login and the same password.
func (t *txn) putUser(ctx context.Context, u store.User, samePassword bool) error {
	args, err := t.store.userArgs(u)
	if err == nil {
		err = t.checkEmail(ctx, u)
	}
	if err == nil && (!samePassword || u.Disabled) {
		err = t.forgetResets(ctx, u.ID)
	}
	if err != nil {
		return err
	}
	digest := `$7`
	if t.store.cfg.Key == nil && u.Legacy && samePassword {
		digest = `COALESCE($7, digest)`
	}
	_, err = t.q.ExecContext(ctx, `UPDATE users SET name = $2, salt = $3, iterations = $4, stored_key = $5, server_key = $6,
		digest = `+digest+`, legacy = $8, mechanisms = $9, prefix_len = $10, max_tunnels = $11, disabled = $12,
		email = $14, is_operator = $15, confirmed = $16
		WHERE id = $1 AND created = $13`, args...)
	if err != nil || !u.Disabled {
		return err
	}
	return t.endSessions(ctx, u.ID)
}

// endSessions ends those of a user.
func (t *txn) endSessions(ctx context.Context, userID string) error {
	leases, err := t.leasesOf(ctx, userID)
	for _, l := range leases {
		if err = t.end(ctx, l); err != nil {
			break
		}
	}
	return err
}

// RemoveUser implements store.Store.
func (s *Store) RemoveUser(ctx context.Context, id string) error {
	err := s.write(ctx, func(ctx context.Context, t *txn) error {
		if _, err := s.userWhere(ctx, t.q, `u.id = $1`+s.db.Lock("u"), id); err != nil {
			return err
		}
		leases, err := t.leasesOf(ctx, id)
		if err != nil {
			return err
		}
		for _, l := range leases {
			if err := t.giveBack(ctx, l); err != nil {
				return err
			}
		}
		_, err = t.q.ExecContext(ctx, `DELETE FROM users WHERE id = $1`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove user %s: %w", id, err)
	}
	return nil
}
