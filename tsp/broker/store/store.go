// Package store keeps what a broker must not forget: its users, which address and
// prefix belongs to whom, and who had them when (RFC 5572, Section 5.1 has the broker
// keep them, from memory: the RFC's text could not be consulted).
//
// [Store] is the interface; packages sqlite and postgres implement it and pass the
// same tests, those of storetest. What a method has returned without an error is on
// the disk: neither a killed process nor a power failure takes it back.
//
// A [Lease] is an address for one tunnel, perhaps with a delegated prefix. Those of a
// user are permanent: they stay the same until they are released. Those of nobody
// expire. What was released stays unused for a time (quarantine), so that traffic for
// the old owner does not reach the next.
//
//	            Reserve            Activate           Deactivate
//	(nothing) ───────────> offered ─────────> up <──────────────> down
//	    ^                     │                │     Activate       │
//	    │   Release, expired  │                └────────┬───────────┘
//	    ├─────────────────────┘                         │ Release, expired, RemoveUser
//	    │                 quarantine is over            v
//	    └────────────────────────────────────────── quarantined
//
// # Several brokers on one store
//
// A lease has a node, the broker that carries its tunnel, and an epoch, a number that
// grows with each session: Reserve gives the session a new one, and whoever comes with
// an older one than the lease has is told [ErrConflict]. So a broker that lost a tunnel
// to another cannot take it back by being late, and learns of it at the next Touch.
// Identifiers are UUIDs, no two brokers make the same.
package store

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
)

// The causes of errors that callers tell apart.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	// ErrEmail: another user has confirmed this e-mail.
	ErrEmail = errors.New("e-mail has an account already")
	// ErrConflict: somebody else was faster, or the epoch is an old one.
	ErrConflict = errors.New("conflicts with a newer change")
	ErrFull     = errors.New("no address or prefix is left")
	// ErrDisabled: the user is, so that no lease is to be had.
	ErrDisabled = errors.New("user is disabled")
	// ErrNewer: a newer version of the program has changed the database.
	ErrNewer = errors.New("the database is of a newer version of this program")
	// ErrKey: without the right key, what is encrypted cannot be read.
	ErrKey = errors.New("wrong or missing key")
)

// User is somebody with an account.
type User struct {
	ID   string // UUIDv7; AddUser makes one
	Name string // as the user types it, at most 253 bytes of UTF-8 without control characters; no two are equal

	Scram sasl.ScramKeys
	// Digest is as good as the password to whoever reads it, for this broker at least.
	// So it is kept only for users with Legacy set, encrypted; nil for others.
	Digest *sasl.Digest
	Legacy bool // may use DIGEST-MD5 and PLAIN

	Mechanisms []string // nil: all that fit
	PrefixLen  int      // 48 to 64; 0 for no prefix
	MaxTunnels int      // at the same time; 0 means 1
	Disabled   bool
	Created    time.Time // AddUser sets it

	Email    string // in lower case, at most 254 bytes; empty when it is not known
	Operator bool   // may see and change what is others', in the web pages
	// Confirmed: the user has shown to read the e-mail. No two have confirmed the same.
	Confirmed bool
}

// State is what a lease is used for at the moment.
type State string

// The states of a lease.
const (
	Offered     State = "offered" // nobody has used it yet
	Up          State = "up"      // a broker carries its tunnel
	Down        State = "down"    // it waits for its owner
	Quarantined State = "quarantined"
)

// Lease is an address, and perhaps a prefix, with their owner.
type Lease struct {
	ID     string // UUIDv7
	UserID string // "" when it is nobody's

	Client6, Server6 netip.Addr   // the ends of the tunnel inside
	Prefix           netip.Prefix // routed to Client6; invalid when there is none

	// What the last session was, zero before the first.
	Type  tsp.Type
	Outer netip.AddrPort // the client's; the port is 0 for protocol 41
	Node  string         // the broker that carries it
	// Local is the broker's end of a tunnel in UDP; invalid for protocol 41, and for a session
	// from before this was on record.
	Local  netip.AddrPort
	Merged bool // the client takes merged TCP

	Epoch    int64 // from Reserve: that of the new session; otherwise of the last one
	State    State
	Created  time.Time
	LastSeen time.Time // zero when it was never up
	Expires  time.Time // zero: never
}

// Want is what a session asks for.
type Want struct {
	UserID    string // "" for nobody
	PrefixLen int    // 48 to 64; 0 for no prefix

	// From is where the client is. Of several leases of a user it gets the one that it
	// had before.
	From netip.AddrPort
	// Expires is when the lease of nobody is free again if Activate does not come; it
	// must be set for these and is ignored for users.
	Expires time.Time
}

// Activation is the beginning of a session.
type Activation struct {
	ID      string // of the lease
	Epoch   int64  // from Reserve
	Node    string // this broker
	Type    tsp.Type
	Outer   netip.AddrPort
	Local   netip.AddrPort // as Lease.Local
	Merged  bool           // as Lease.Merged
	Expires time.Time      // of a lease of nobody, which must have one; ignored for users
}

// Seen says that a tunnel is in use.
type Seen struct {
	ID      string // of the lease
	Epoch   int64
	At      time.Time
	Expires time.Time // as of Activation; zero: as before
}

// Event is what happened to a lease.
type Event string

// The events in the log.
const (
	Began    Event = "began"    // a session began
	Ended    Event = "ended"    // it ended; another Began of that lease means this as well
	Returned Event = "returned" // its address and prefix belong to nobody now
)

// Entry is one line of the log: who had an address and a prefix, and from where.
type Entry struct {
	ID       string // UUIDv7
	At       time.Time
	Event    Event
	LeaseID  string
	UserID   string // "" for nobody
	UserName string // at that time
	Client6  netip.Addr
	Prefix   netip.Prefix
	Type     tsp.Type
	Outer    netip.AddrPort
	Node     string
}

// Query says which entries of the log are wanted.
type Query struct {
	Address     netip.Addr // of a client or in its prefix; invalid: all
	From, Until time.Time  // Until excluded; zero: no bound
	Over        bool       // no Began
}

// Usage is how much of the pool is taken, with what is in quarantine.
type Usage struct {
	Pool      netip.Prefix
	Addresses int    // taken
	Prefixes  int    // taken
	Free      uint64 // /64 networks that are left for prefixes
	Largest   int    // length in bits of the largest prefix that is left; 0 for none
}

// Store keeps users and leases. All methods may be called by several goroutines, and
// several processes may have the same store open. Errors wrap the package's causes.
type Store interface {
	Signups
	Resets
	Finder

	// AddUser adds a user and returns it with ID and Created. ErrExists when the name
	// is taken, ErrEmail when the e-mail is confirmed and another's.
	AddUser(ctx context.Context, u User) (User, error)
	// User and UserByName find one user, or ErrNotFound.
	User(ctx context.Context, id string) (User, error)
	UserByName(ctx context.Context, name string) (User, error)
	// Users are all users by name. It reads page by page: what changes meanwhile may
	// or may not be seen. The last pair has an error if there is one.
	Users(ctx context.Context) iter.Seq2[User, error]
	// UpdateUser changes a user; change may be called by another goroutine, and again
	// when others interfere, and its error is returned. It must not use the store. ID and
	// Created stay. Disabling ends the user's sessions.
	UpdateUser(ctx context.Context, id string, change func(*User) error) (User, error)
	// RemoveUser removes a user; its leases go to quarantine, or are gone when they
	// were never used.
	RemoveUser(ctx context.Context, id string) error

	// Reserve finds or makes the lease for a new session. A user has at most
	// MaxTunnels of them, which are permanent: the same address, and the same prefix
	// though another length be wanted, until it is released. It gets, in this order: the
	// one that is up from where it is, one that is not up, a new one, the one that
	// was not seen for the longest time. Errors: ErrNotFound, ErrDisabled, ErrFull.
	Reserve(ctx context.Context, w Want) (Lease, error)
	// Activate begins a session, and thereby ends an earlier one of that lease.
	// ErrConflict when a later one has begun; ErrNotFound when the lease is gone.
	Activate(ctx context.Context, a Activation) (Lease, error)
	// Touch notes that sessions go on; many at once cost little. It returns the IDs of
	// those that do not: another broker has them, or an operator ended them.
	Touch(ctx context.Context, seen []Seen) (lost []string, err error)
	// Deactivate ends a session. The lease stays, up to its expiry. ErrConflict when a
	// later one has begun, ErrNotFound when the lease is gone.
	Deactivate(ctx context.Context, id string, epoch int64) error
	// Release gives a lease back, a permanent one too: it goes to quarantine, or is gone
	// at once when it was never up. Errors as of Deactivate.
	Release(ctx context.Context, id string, epoch int64) error
	// Lease finds a lease, or ErrNotFound.
	Lease(ctx context.Context, id string) (Lease, error)
	// Leases are all leases by ID, those of quarantine too. It reads as Users does.
	Leases(ctx context.Context) iter.Seq2[Lease, error]
	// CountLeases says how many there are in each state, as the database has it; states
	// of none are absent. It costs little enough to be called every few seconds.
	CountLeases(ctx context.Context) (map[State]int, error)
	// Live are the leases that a node carries: what a broker starts again with. With the
	// node "" they are those of all nodes.
	Live(ctx context.Context, node string) ([]Lease, error)
	// ExpireBefore does what is due: leases that expire before t go to quarantine, or
	// are gone when they were never up; those whose quarantine ends before t are free.
	// It returns the former, as they were.
	ExpireBefore(ctx context.Context, t time.Time) ([]Lease, error)

	// Log are entries of the log, oldest first. Entries never change. It reads as Users does.
	Log(ctx context.Context, q Query) iter.Seq2[Entry, error]
	// ForgetLog removes all entries before t, as the law may want, and says how many.
	ForgetLog(ctx context.Context, t time.Time) (int, error)
	// ReplaceKey has what is encrypted be so with another key from now on, and returns
	// the names of the users whose Digest the old one does not open, which is gone then;
	// old is nil when it is lost. What has been opened with a key must be opened anew.
	ReplaceKey(ctx context.Context, old, new *Key) (lost []string, err error)
	// Usage is the state of the pool, as far as this process knows.
	Usage() Usage
	// Close waits for what is being written. The methods return os.ErrClosed from then on.
	Close() error
}
