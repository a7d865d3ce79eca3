package store

import (
	"log/slog"
	"net/netip"
	"time"
)

// DefaultQuarantine is how long a released address and prefix stay unused.
const DefaultQuarantine = 7 * 24 * time.Hour

// Config is what every store needs to know.
type Config struct {
	// Pool is what addresses and prefixes are taken from; see package pool for which
	// are possible. Without it Reserve fails with errors.ErrUnsupported: enough to
	// manage users.
	Pool netip.Prefix
	// Key encrypts what is as good as a password; without it there can be no users
	// with a Digest, and those that there are have none.
	Key *Key
	// Quarantine is for how long what was released stays unused; 0 means
	// DefaultQuarantine, below 0 means none.
	Quarantine time.Duration
	// Signups and SignupsOfSource are how many people may wait; 0 means MaxSignups and
	// MaxSignupsOfSource.
	Signups, SignupsOfSource int

	Now    func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil means none
}
