package storetest

import (
	"slices"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

// testReplaceKey: with the old key nobody loses anything, without it the digests are
// gone, and in both cases only the new key opens the database.
func testReplaceKey(e *env) {
	cfg := e.config()
	ctx, first, lastKey := e.Context(), e.open(cfg), cfg.Key
	digest := sasl.NewDigest("ann", "realm", "secret")
	ann := e.add(first, "ann", func(u *store.User) { u.Legacy, u.Digest = true, &digest })
	e.add(first, "bob", nil)
	for i, step := range []struct {
		old  *store.Key
		lost []string
	}{
		{lastKey, nil},
		{nil, []string{"ann"}},
		{nil, nil}, // nothing is left to lose
	} {
		cfg.Key = nil
		s := e.open(cfg)
		next := key(e, byte(10+i))
		lost, err := s.ReplaceKey(ctx, step.old, next)
		if e.must(err); !slices.Equal(lost, step.lost) {
			e.Errorf("step %d: lost %v, want %v", i, lost, step.lost)
		}
		cfg.Key = lastKey
		_, err = e.opener(ctx, cfg)
		e.fails(err, store.ErrKey)
		cfg.Key, lastKey = next, next
		u, err := e.open(cfg).User(ctx, ann.ID)
		if e.must(err); i == 0 && (u.Digest == nil || *u.Digest != digest) || i > 0 && u.Digest != nil || !u.Legacy {
			e.Errorf("step %d: %+v", i, u)
		}
	}
}
