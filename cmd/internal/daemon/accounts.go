package daemon

import (
	"context"
	"errors"
	"fmt"

	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

// accounts are the users of a store, as the broker wants to know them.
type accounts struct{ store store.Store }

// Lookup finds the user of a name.
func (a accounts) Lookup(ctx context.Context, name string) (*broker.User, error) {
	u, err := a.store.UserByName(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", broker.ErrNoUser, err)
	}
	if err != nil {
		return nil, err
	}
	return &broker.User{
		ID: u.ID, Name: u.Name, Scram: u.Scram, Digest: u.Digest, Mechanisms: mechanisms(u),
		PrefixLen: u.PrefixLen, MaxTunnels: u.MaxTunnels, Disabled: u.Disabled,
	}, nil
}

// mechanisms are those that a user may log in with: without legacy login only the
// one that shows the password to nobody.
func mechanisms(u store.User) []string {
	if u.Mechanisms != nil || u.Legacy {
		return u.Mechanisms
	}
	return []string{sasl.ScramSHA256}
}
