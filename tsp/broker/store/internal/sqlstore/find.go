package sqlstore

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"

	"sixin4/tsp/broker/store"
)

// defaultLimit is how many are found at once.
const defaultLimit = 100

// contains is a pattern for LIKE, with ! before what would mean something.
func contains(text string) string {
	return "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(strings.ToLower(text)) + "%"
}

// FindUsers implements store.Finder.
func (s *Store) FindUsers(ctx context.Context, f store.Find) ([]store.User, error) {
	q, err := s.reader()
	switch {
	case err != nil:
		return nil, fmt.Errorf("find users: %w", err)
	case !plain(f.Text) || !plain(f.After):
		return nil, nil
	}
	return collect(ctx, q, "find users", s.scanUser, `SELECT `+userColumns+` FROM users u
		WHERE u.name > $1 AND (LOWER(u.name) LIKE $2 ESCAPE '!' OR u.email LIKE $2 ESCAPE '!')
		ORDER BY u.name LIMIT $3`, f.After, contains(f.Text), cmp.Or(f.Limit, defaultLimit))
}

// UserByEmail implements store.Finder.
func (s *Store) UserByEmail(ctx context.Context, email string) (store.User, error) {
	if email == "" {
		return store.User{}, fmt.Errorf("user without e-mail: %w", store.ErrNotFound)
	}
	return s.findUser(ctx, "u.confirmed AND u.email", email)
}

// FindSignups implements store.Finder.
func (s *Store) FindSignups(ctx context.Context, f store.Find) ([]store.Signup, error) {
	q, err := s.reader()
	switch {
	case err != nil:
		return nil, fmt.Errorf("find sign-ups: %w", err)
	case !plain(f.Text) || !plain(f.After):
		return nil, nil
	}
	const place = `(CASE WHEN s.opened THEN '0' ELSE '1' END) || s.id`
	return collect(ctx, q, "find sign-ups", scanSignup, selectSignup+`NOT s.approved AND s.expires > $4 AND `+place+` > $1
		AND (LOWER(s.name) LIKE $2 ESCAPE '!' OR s.email LIKE $2 ESCAPE '!') ORDER BY `+place+` LIMIT $3`,
		f.After, contains(f.Text), cmp.Or(f.Limit, defaultLimit), micros(s.now()))
}

// FindLeases implements store.Finder.
func (s *Store) FindLeases(ctx context.Context, f store.Find) ([]store.Lease, error) {
	if !plain(f.Text) || !plain(f.After) {
		return nil, nil
	}
	limit := cmp.Or(f.Limit, defaultLimit)
	if f.Text == "" {
		return s.leases(ctx, `l.id > $1 ORDER BY l.id LIMIT $2`, f.After, limit)
	}
	args := []any{f.After, limit, contains(f.Text), f.Text, outerPattern(f.Text)}
	var in strings.Builder
	for _, b := range blocksAround(f.Text) {
		args = append(args, b)
		fmt.Fprintf(&in, ", $%d", len(args))
	}
	return s.leases(ctx, `l.id > $1 AND (LOWER(u.name) LIKE $3 ESCAPE '!' OR l.id = $4 OR l.outer4 LIKE $5
		OR l.client6 IN ($4`+in.String()+`) OR l.prefix IN ($4`+in.String()+`)) ORDER BY l.id LIMIT $2`, args...)
}

// outerPattern is a pattern for the outer address, with whatever port; for other
// texts, one that nothing is like.
func outerPattern(text string) string {
	if a, err := netip.ParseAddr(text); err == nil && a.Is4() {
		return a.String() + ":%"
	}
	return "-"
}

// blocksAround are the blocks that an address or prefix may be in, as the tables have
// them.
func blocksAround(text string) (blocks []any) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return []any{p.Masked().String()}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is6() || a.Zone() != "" {
		return nil
	}
	blocks = append(blocks, a.String())
	for bits := 48; bits <= 64; bits++ {
		blocks = append(blocks, netip.PrefixFrom(a, bits).Masked().String())
	}
	return blocks
}

// LeasesOf implements store.Finder.
func (s *Store) LeasesOf(ctx context.Context, userID string) ([]store.Lease, error) {
	return s.leases(ctx, `l.user_id = $1 ORDER BY l.id`, userID)
}
