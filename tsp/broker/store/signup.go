package store

import (
	"context"
	"iter"
	"time"
)

// How many people may wait at the same time to become users: in all, and of one source.
// Those who have opened their link are counted by themselves, and whom the operator has
// approved not at all.
const (
	MaxSignups         = 10_000
	MaxSignupsOfSource = 1000
)

// Signup is somebody who wants to be a user. Several may want one name: the first to
// redeem has it.
type Signup struct {
	ID    string // UUIDv7; AddSignup makes one
	Name  string // as of User
	Email string // as of User
	Token []byte // SHA-256 of the secret that the person has, 32 bytes; no two are equal
	// Source is where it comes from: sign-ups of one are bounded together. At most 64 bytes.
	Source string
	Mailed bool // the secret was sent to the e-mail, and nowhere else
	Opened bool // the person has opened the link with the secret

	Approved   bool // the person may become a user
	PrefixLen  int  // as of User
	MaxTunnels int  // as of User

	Created time.Time // AddSignup sets it
	Expires time.Time // as if it were not there from then on
}

// Place is where a sign-up is in the list of FindSignups, for Find.After.
func (s Signup) Place() string {
	if s.Opened {
		return "0" + s.ID
	}
	return "1" + s.ID
}

// Signups are people who want to be users.
type Signups interface {
	// AddSignup adds one, and forgets those that have expired. When there are too many,
	// one is forgotten that nobody has opened or approved: the oldest of its source, or of
	// the source that has most. So who floods the list ousts nobody else.
	AddSignup(ctx context.Context, s Signup) (Signup, error)
	// OpenSignup notes that its person has opened the link. Too many of these are bounded
	// as in AddSignup, and oust no others. ErrNotFound.
	OpenSignup(ctx context.Context, id string) error
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
	// tunnels, and confirmed when the secret was mailed; the rest is of u. It works once.
	// ErrNotFound; ErrExists when a user has that name by now, ErrEmail when one has
	// confirmed that e-mail, and then it stays.
	Redeem(ctx context.Context, token []byte, u User) (User, error)
}

// MaxResets is how many links for another password a user has at a time.
const MaxResets = 3

// Reset lets who has a secret choose another password for a user.
type Reset struct {
	UserID  string
	Token   []byte // SHA-256 of the secret, 32 bytes; no two are equal
	Expires time.Time
}

// Resets are links for users who forgot their password. They are gone as soon as the
// password is another one.
type Resets interface {
	// AddReset adds one, for which the oldest goes when a user has MaxResets. ErrNotFound
	// when there is no such user.
	AddReset(ctx context.Context, r Reset) error
	// UserByReset finds whose password may be changed, or ErrNotFound.
	UserByReset(ctx context.Context, token []byte) (User, error)
	// Reset changes the user as UpdateUser does, and forgets all resets of this user, so
	// that it works once. ErrNotFound.
	Reset(ctx context.Context, token []byte, change func(*User) error) (User, error)
}

// Find says which users, sign-ups or leases are wanted, a page of them.
type Find struct {
	// Text is in the name or the e-mail of a user or sign-up, without regard to case; of a lease it
	// is in its user's name, or it is its ID, its address, one in its prefix, its prefix, or
	// the client's outer address. Empty: all.
	Text  string
	After string // only what sorts behind this: a name, the place of a sign-up, or the ID of a lease
	Limit int    // how many; 0 means 100
}

// Finder finds users and leases without reading all.
type Finder interface {
	// FindUsers are users by name.
	FindUsers(ctx context.Context, f Find) ([]User, error)
	// FindSignups are those that wait for the operator, whose name or e-mail has the text:
	// first who has opened the link, and each oldest first. After is a Place.
	FindSignups(ctx context.Context, f Find) ([]Signup, error)
	// UserByEmail finds the user who has confirmed an e-mail, or ErrNotFound.
	UserByEmail(ctx context.Context, email string) (User, error)
	// FindLeases are leases by ID.
	FindLeases(ctx context.Context, f Find) ([]Lease, error)
	// LeasesOf are the leases of a user, oldest first.
	LeasesOf(ctx context.Context, userID string) ([]Lease, error)
}
