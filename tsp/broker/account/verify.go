package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sixin4/tsp/broker/internal/bucket"
	"sixin4/tsp/sasl"
)

// Rate is how often: Burst at once, and one more every 1/PerSecond seconds.
type Rate = bucket.Rate

// Limits bound what logins may cost. Zero fields mean the defaults.
type Limits struct {
	// Iterations is what users that do not exist seem to have; it should be what all
	// others have. 0 means DefaultIterations.
	Iterations int

	// Deriving is how many passwords of PLAIN are checked at a time, 0 means half of
	// the processors, and at least one. Waiting is how many more wait for that, 0 means
	// 64, and WaitingPerSource how many of them for one source, 0 means 4. Who is too
	// many is told ErrBusy.
	Deriving, Waiting, WaitingPerSource int

	// Failures of one account from one source, and of one source in all. Nobody is
	// shut out by what others do, unless they share the source. 0 means 10 at once and
	// one each 20 s, and 60 at once and one each 2 s.
	Failures, FailuresPerSource Rate

	// LookupTime is the unit in which it takes time to look an account up, so that the
	// time does not show whether there is one: much more than it takes to read one. 0
	// means 5 ms, below 0 none.
	LookupTime time.Duration

	// Remembered is how many sources, and pairs of account and source, are known at a
	// time; 0 means 65536.
	Remembered int
}

func (l Limits) withDefaults() Limits {
	l.Iterations = orDefault(l.Iterations, DefaultIterations)
	l.Deriving = orDefault(l.Deriving, max(1, runtime.GOMAXPROCS(0)/2))
	l.Waiting = orDefault(l.Waiting, 64)
	l.WaitingPerSource = orDefault(l.WaitingPerSource, 4)
	l.Failures = orDefault(l.Failures, Rate{PerSecond: 1. / 20, Burst: 10})
	l.FailuresPerSource = orDefault(l.FailuresPerSource, Rate{PerSecond: 1. / 2, Burst: 60})
	l.LookupTime = orDefault(l.LookupTime, 5*time.Millisecond)
	l.Remembered = orDefault(l.Remembered, 65536)
	return l
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Config is what logins are checked against.
type Config struct {
	Accounts Accounts // nil: there are none
	Realm    string   // of every sasl.Digest; empty for "sixin4"

	// Secret is what the keys of users that do not exist are made of. It should stay
	// the same for ever, on all brokers with the same accounts: salts that change would
	// show which users do not exist. Empty for a random one.
	Secret []byte

	// Nonce makes the nonces of DIGEST-MD5, of letters and digits. By default they are
	// random; tests replay old ones.
	Nonce func() string

	// Failures are counted there, together with those of other Verifiers; nil: alone.
	Failures *Failures

	Limits Limits
}

// Verifier checks logins. Any number of goroutines may use one.
type Verifier struct {
	config   Config
	turns    *turns
	failures *Failures

	// derive reports whether a password has the keys; tests count its calls.
	derive func(password string, keys sasl.ScramKeys) bool
	// wait waits precisely; tests have another clock.
	wait func(ctx context.Context, d time.Duration)
}

// New checks the configuration; it starts nothing.
func New(c Config) (*Verifier, error) {
	c.Limits = c.Limits.withDefaults()
	c.Realm = orDefault(c.Realm, "sixin4")
	if c.Nonce == nil {
		c.Nonce = func() string { return rand.Text()[:16] }
	}
	if len(c.Secret) == 0 {
		c.Secret = make([]byte, 32)
		_, _ = rand.Read(c.Secret) // never fails
	}
	if c.Failures == nil {
		c.Failures = NewFailures(c.Limits)
	}
	if i := c.Limits.Iterations; i < 4096 || i > 1_000_000 {
		return nil, fmt.Errorf("account: %d iterations, not 4096 to 1000000", i)
	}
	if _, err := sasl.NewDigestServer(sasl.DigestConfig{Realm: c.Realm}); err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	return &Verifier{
		config:   c,
		turns:    newTurns(c.Limits),
		failures: c.Failures,
		derive:   derive,
		wait:     new(pauses).wait,
	}, nil
}

// Source is where a login comes from.
type Source struct {
	Addr netip.Addr // all of one site share it; see [SourceOf]
	// Datagram: anybody may have sent it, in this name. What somebody can do without
	// hearing an answer must not count against the source.
	Datagram bool
}

// SourceOf is the address by which a client is counted: its own in IPv4, its /64 in
// IPv6.
func SourceOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64) // 64 is in range
		return p.Addr()
	}
	return a
}

// Login is one authentication. It is for one goroutine.
type Login struct {
	v         *Verifier
	mechanism sasl.Server
	source    Source

	ctx     context.Context // of the Next that is running
	name    string
	user    *User // that has this name
	in      *User // who has logged in
	nonce   string
	charged bool
	failure error // of what a mechanism calls back, which can only say no
}

// Start starts a mechanism of a name in upper case. ANONYMOUS is none of them: it has
// no accounts.
func (v *Verifier) Start(mechanism string, source Source) (*Login, error) {
	l := &Login{v: v, source: source}
	var err error
	switch mechanism {
	case sasl.Plain:
		l.mechanism = sasl.NewPlainServer(l.checkPlain)
	case sasl.DigestMD5:
		l.mechanism, err = sasl.NewDigestServer(sasl.DigestConfig{Realm: v.config.Realm, Nonce: v.config.Nonce, Lookup: l.digest})
	case sasl.ScramSHA256:
		l.mechanism, err = sasl.NewScramServer(l.scram)
	default:
		err = fmt.Errorf("%w: mechanism %q", errors.ErrUnsupported, mechanism)
	}
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	return l, nil
}

// Mechanism is its name.
func (l *Login) Mechanism() string { return l.mechanism.Name() }

// User is who has logged in; nil before Next is done.
func (l *Login) User() *User { return l.in }

// Next goes on with a message of the client, as the Next of a sasl.Server. The error
// wraps sasl.ErrAuth or sasl.ErrProtocol when the client is not who it says, ErrBusy
// when that was not checked; any other is a failure of the accounts. After an error
// it is over.
func (l *Login) Next(ctx context.Context, in []byte) (out []byte, done bool, err error) {
	l.ctx = ctx
	defer func() { l.ctx = nil }()
	if err := l.beforeProof(in); err != nil {
		return nil, false, err
	}
	out, done, err = l.mechanism.Next(in)
	if l.failure != nil {
		l.refund() // nothing was checked
		return nil, false, fmt.Errorf("login: %w", l.failure)
	}
	if err != nil {
		return nil, false, fmt.Errorf("login: %w", err)
	}
	if l.nonce == "" {
		l.nonce = nonceOf(out)
	}
	if done && !l.allowed() {
		return nil, false, fmt.Errorf("login: %w: %s is not for this user", sasl.ErrAuth, l.Mechanism())
	}
	if done {
		l.refund()
		l.in = l.user
	}
	return out, done, nil
}

// beforeProof charges for the last message of SCRAM, for its account is known since
// the first. A message without the nonce that we chose is not from who got it, so it
// fails, but does not count.
func (l *Login) beforeProof(in []byte) error {
	if l.Mechanism() != sasl.ScramSHA256 || l.name == "" {
		return nil
	}
	if !strings.Contains(","+string(in)+",", ",r="+l.nonce+",") {
		return fmt.Errorf("login: %w: another nonce", sasl.ErrAuth)
	}
	if !l.charge() {
		return fmt.Errorf("login: %w", ErrBusy)
	}
	return nil
}

// nonceOf is the nonce in the first message of a SCRAM server.
func nonceOf(first []byte) string {
	field, _, _ := strings.Cut(string(first), ",")
	nonce, _ := strings.CutPrefix(field, "r=")
	return nonce
}

// allowed reports whether a user who has proved to know the password may be let in.
func (l *Login) allowed() bool {
	u := l.user
	if u == nil || u.Disabled {
		return false
	}
	return len(u.Mechanisms) == 0 ||
		slices.ContainsFunc(u.Mechanisms, func(m string) bool { return strings.EqualFold(m, l.Mechanism()) })
}

// find looks an account up. Whether there is one shows in l.user only.
func (l *Login) find(name string) {
	l.name = name
	if !validName(name) || l.v.config.Accounts == nil {
		return
	}
	u, err := l.v.config.Accounts.Lookup(l.ctx, name)
	switch {
	case err == nil:
		l.user = u
	case errors.Is(err, context.DeadlineExceeded):
		l.failure = ErrBusy
	case !errors.Is(err, ErrNoUser):
		l.failure = fmt.Errorf("look up: %w", err)
	}
}

// keys are those of the account, or of nobody.
func (l *Login) keys() sasl.ScramKeys {
	if l.user != nil && len(l.user.Scram.StoredKey) == sha256.Size {
		return l.user.Scram
	}
	return l.v.decoy(l.name)
}

// even waits until a whole number of LookupTime has passed since start, so that the time
// does not show whether there is such an account. PLAIN does without: there it is lost
// in the time that a password takes.
func (l *Login) even(start time.Time) {
	unit := l.v.config.Limits.LookupTime
	if unit <= 0 {
		return
	}
	l.v.wait(l.ctx, unit-time.Since(start)%unit)
}

func (l *Login) scram(name string) (sasl.ScramKeys, bool) {
	defer l.even(time.Now())
	l.find(name)
	return l.keys(), true
}

func (l *Login) digest(name string) (d sasl.Digest, ok bool) {
	l.name = name
	if !l.charge() {
		l.failure = ErrBusy
		return d, false
	}
	defer l.even(time.Now())
	if l.find(name); l.user == nil || l.user.Digest == nil {
		return l.v.decoyDigest(name), true // made before the pause, and nobody has its password
	}
	return *l.user.Digest, true
}

func (l *Login) checkPlain(name, password string) bool {
	l.name = name
	if !l.charge() {
		l.failure = ErrBusy
		return false
	}
	if l.find(name); l.failure != nil {
		return false
	}
	release, err := l.v.turns.enter(l.ctx, l.source.Addr)
	if err != nil {
		l.failure = err
		return false
	}
	defer release()
	return l.v.derive(password, l.keys())
}

// derive reports whether a password has the keys of a user. The user is no part of
// them.
func derive(password string, keys sasl.ScramKeys) bool {
	got, err := sasl.NewScramKeys("user", password, keys.Salt, keys.Iterations)
	return err == nil && subtle.ConstantTimeCompare(got.StoredKey, keys.StoredKey) == 1
}

// decoy are keys that no password has, the same ones for a name every time.
func (v *Verifier) decoy(name string) sasl.ScramKeys {
	return sasl.ScramKeys{
		Salt: v.sum("salt:" + name)[:16], Iterations: v.config.Limits.Iterations,
		StoredKey: v.sum("stored:" + name), ServerKey: v.sum("server:" + name),
	}
}

// decoyDigest is the same for DIGEST-MD5.
func (v *Verifier) decoyDigest(name string) sasl.Digest {
	return sasl.Digest(v.sum("digest:" + name)[:16])
}

// sum is what nobody without the secret can know.
func (v *Verifier) sum(of string) []byte {
	mac := hmac.New(sha256.New, v.config.Secret)
	mac.Write([]byte(of))
	return mac.Sum(nil)
}

// validName reports whether an account may have this name.
func validName(name string) bool {
	return name != "" && len(name) <= 253 && utf8.ValidString(name) && strings.IndexFunc(name, unicode.IsControl) < 0
}
