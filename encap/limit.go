package encap

// Rate and burst of a [TokenBucket] that names none, as RFC 4443,
// Section 2.4(f) suggests for a small device (from memory).
const (
	DefaultRate  = 10
	DefaultBurst = 10
)

// TokenBucket limits how many ICMPv6 errors are originated (RFC 4443,
// Section 2.4(f)). The zero value is ready and has the default limits. It belongs
// to one goroutine.
//
// It holds no tokens but the one moment at which the bucket would be full again,
// so that nothing has to be refilled.
type TokenBucket struct {
	Rate  int // tokens a second, 1 to 1e9; 0 means DefaultRate
	Burst int // tokens in a full bucket, at least 1; 0 means DefaultBurst

	full int64
}

// Allow takes a token and reports whether there was one. now is a time in
// nanoseconds from any beginning, not before 0, that never goes back.
func (t *TokenBucket) Allow(now int64) bool {
	if t.Empty(now) {
		return false
	}
	t.full = max(t.full, now) + t.token()
	return true
}

// Empty reports whether Allow would find no token.
func (t *TokenBucket) Empty(now int64) bool {
	burst := int64(t.Burst)
	if burst == 0 {
		burst = DefaultBurst
	}
	return t.full-now > (burst-1)*t.token()
}

// token is the time in nanoseconds in which one token comes.
func (t *TokenBucket) token() int64 {
	if t.Rate == 0 {
		return 1e9 / DefaultRate
	}
	return 1e9 / int64(t.Rate)
}
