package store

import (
	"context"
	"iter"
	"time"
)

// MaxSignups is how many people may wait at the same time to become users.
const MaxSignups = 10_000

// Signup is somebody who wants to be a user. Several may want one name: the first to
// redeem has it.
type Signup struct {
	ID    string // UUIDv7; AddSignup makes one
	Name  string // as of User
	Email string // as of User
	Token []byte // SHA-256 of the secret that the person has, 32 bytes; no two are equal

	Approved   bool // the person may become a user
	PrefixLen  int  // as of User
	MaxTunnels int  // as of User

	Created time.Time // AddSignup sets it
	Expires time.Time // as if it were not there from then on
}

// Signups are people who want to be users.
type Signups interface {
	// AddSignup adds one, and forgets those that have expired. ErrFull when there are
	// MaxSignups.
	AddSignup(ctx context.Context, s Signup) (Signup, error)
	// SignupByToken finds one by the hash of its secret, or ErrNotFound.
	SignupByToken(ctx context.Context, token []byte) (Signup, error)
	// Signups are all of them, oldest first. It reads as Users does.
	Signups(ctx context.Context) iter.Seq2[Signup, error]
	// ApproveSignup lets one become a user with a prefix and tunnels as given, until
	// expires. ErrNotFound; ErrExists when a user has that name already.
	ApproveSignup(ctx context.Context, s Signup) (Signup, error)
	// RemoveSignup forgets one, or ErrNotFound.
	RemoveSignup(ctx context.Context, id string) error
	// Redeem makes an approved one a user, with its name, e-mail, prefix length and
	// tunnels; the rest is of u. It works once. ErrNotFound; ErrExists when a user has
	// that name by now, and then it stays.
	Redeem(ctx context.Context, token []byte, u User) (User, error)
}

// Find says which users or leases are wanted, a page of them.
type Find struct {
	// Text is in the name or the e-mail of a user, without regard to case; of a lease it
	// is in its user's name, or it is its ID, its address, one in its prefix, its prefix, or
	// the client's outer address. Empty: all.
	Text  string
	After string // only what sorts behind this: a name, or the ID of a lease
	Limit int    // how many; 0 means 100
}

// Finder finds users and leases without reading all.
type Finder interface {
	// FindUsers are users by name.
	FindUsers(ctx context.Context, f Find) ([]User, error)
	// UserByEmail finds a user with an e-mail, the first by name, or ErrNotFound.
	UserByEmail(ctx context.Context, email string) (User, error)
	// FindLeases are leases by ID.
	FindLeases(ctx context.Context, f Find) ([]Lease, error)
	// LeasesOf are the leases of a user, oldest first.
	LeasesOf(ctx context.Context, userID string) ([]Lease, error)
}
