package account

import (
	"net/netip"
	"time"

	"sixin4/tsp/broker/internal/bucket"
	"sixin4/tsp/sasl"
)

// Failures are logins that failed lately. Several Verifiers may count theirs together:
// who has guessed enough in one way may not go on in another. Any number of goroutines
// may use one.
type Failures struct {
	accounts *bucket.Table[attempt] // of one account from one source
	sources  *bucket.Table[attempt] // of one source
}

// NewFailures makes one without failures, with the Failures, FailuresPerSource and
// Remembered of the limits.
func NewFailures(l Limits) *Failures {
	l = l.withDefaults()
	return &Failures{
		accounts: bucket.New[attempt](l.Failures, l.Remembered),
		sources:  bucket.New[attempt](l.FailuresPerSource, l.Remembered),
	}
}

// attempt is what failures are counted by. What may have been sent by somebody else in
// the name of the source is counted by itself.
type attempt struct {
	account   string // empty for all of a source
	source    netip.Addr
	forgeable bool
}

// attempts are what a failure counts for.
func (l *Login) attempts() (account, source attempt) {
	source = attempt{source: l.source.Addr, forgeable: l.source.Datagram && l.Mechanism() == sasl.Plain}
	account = source
	account.account = l.name[:min(len(l.name), 253)]
	return account, source
}

// charge counts a failure in advance, so that many at a time count as many.
func (l *Login) charge() bool {
	account, source := l.attempts()
	now := time.Now()
	if !l.v.failures.sources.Take(now, source) {
		return false
	}
	if !l.v.failures.accounts.Take(now, account) {
		l.v.failures.sources.Give(source)
		return false
	}
	l.charged = true
	return true
}

// refund takes the charge back.
func (l *Login) refund() {
	if !l.charged {
		return
	}
	l.charged = false
	account, source := l.attempts()
	l.v.failures.sources.Give(source)
	l.v.failures.accounts.Give(account)
}
