package sasl

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// The count of uses of a nonce: one.
const nonceCount = "00000001"

// Digest is MD5(user ":" realm ":" password), all that a broker needs to store of a
// password for DIGEST-MD5, for one realm. Bytes are hashed as they are: RFC 2831,
// Section 2.1.2.1 would have UTF-8 converted to Latin-1 where it can be (from memory),
// which no program seen does.
type Digest [md5.Size]byte

// NewDigest makes the Digest of a user.
func NewDigest(user, realm, password string) Digest {
	return md5.Sum([]byte(user + ":" + realm + ":" + password))
}

// exchange is everything that both sides hash (RFC 2831, Section 2.1.2.1).
type exchange struct {
	secret             Digest
	nonce, cnonce, uri string
}

// sum is the response for the method AUTHENTICATE, and rspauth for none.
func (e exchange) sum(method string) string {
	a1 := append(e.secret[:], ":"+e.nonce+":"+e.cnonce...)
	return md5Hex(md5Hex(string(a1)) + ":" + e.nonce + ":" + nonceCount + ":" + e.cnonce +
		":auth:" + md5Hex(method+":"+e.uri))
}

func (e exchange) response() string { return e.sum("AUTHENTICATE") }
func (e exchange) rspauth() string  { return e.sum("") }

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// sameHex compares two hexadecimal digests in constant time.
func sameHex(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(strings.ToLower(a)), []byte(strings.ToLower(b))) == 1
}

type digestClient struct {
	credentials Credentials
	exchange    exchange
	step        int
}

func (d *digestClient) Name() string { return DigestMD5 }

// Next goes nil -> challenge -> rspauth.
func (d *digestClient) Next(in []byte) (out []byte, done bool, err error) {
	d.step++
	switch {
	case d.step == 1 && in == nil:
		return nil, false, nil
	case d.step == 2:
		out, err = d.respond(in)
	case d.step == 3:
		done, err = true, d.verify(in)
	default:
		err = ErrProtocol
	}
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", DigestMD5, err)
	}
	return out, done, nil
}

// respond answers a challenge. The order of the fields, no blanks, and the charset
// word as it came are what every broker seen can read.
func (d *digestClient) respond(challenge []byte) ([]byte, error) {
	f, err := parseFields(challenge)
	if err != nil {
		return nil, err
	}
	if err := checkChallenge(f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	c := d.credentials
	d.exchange = exchange{
		secret: NewDigest(c.User, f["realm"], c.Password),
		nonce:  f["nonce"], cnonce: c.nonce(), uri: "tsp/" + c.Server,
	}
	var b strings.Builder
	if charset, ok := f["charset"]; ok {
		b.WriteString("charset=" + charset + ",")
	}
	b.WriteString(`username="` + escape(c.User) + `"`)
	if realm, ok := f["realm"]; ok {
		b.WriteString(`,realm="` + escape(realm) + `"`)
	}
	e := d.exchange
	b.WriteString(`,nonce="` + escape(e.nonce) + `",nc=` + nonceCount + `,cnonce="` + escape(e.cnonce) +
		`",digest-uri="` + escape(e.uri) + `",response=` + e.response() + ",qop=auth")
	return []byte(b.String()), nil
}

// checkChallenge refuses what we could answer only with something else than it asks.
func checkChallenge(f map[string]string) error {
	if f["nonce"] == "" {
		return errors.New("no nonce")
	}
	if qop, ok := f["qop"]; ok && !listed(qop, "auth") {
		return fmt.Errorf("qop %q", clip(qop))
	}
	if a, ok := f["algorithm"]; ok && !strings.EqualFold(a, "md5-sess") {
		return fmt.Errorf("algorithm %q", clip(a))
	}
	switch charset, ok := f["charset"]; {
	case !ok, strings.EqualFold(charset, "utf8"), strings.EqualFold(charset, "utf-8"):
		return nil
	default:
		return fmt.Errorf("charset %q", clip(charset))
	}
}

// listed reports whether a word is in a list with commas.
func listed(list, word string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(item), word) {
			return true
		}
	}
	return false
}

// verify makes sure that the broker knows the password too.
func (d *digestClient) verify(in []byte) error {
	f, err := parseFields(in)
	if err != nil {
		return err
	}
	if !sameHex(f["rspauth"], d.exchange.rspauth()) {
		return fmt.Errorf("%w: the broker does not know the password", ErrAuth)
	}
	return nil
}

// DigestConfig is the broker's side of DIGEST-MD5.
type DigestConfig struct {
	// Realm is part of every Digest, so it stays for ever: letters, digits, dots and
	// hyphens, as there are clients that read no more.
	Realm string
	// Lookup finds a user's Digest for Realm.
	Lookup func(user string) (d Digest, ok bool)
	// Nonce makes the nonces, of letters and digits. By default they are random;
	// tests replay old ones.
	Nonce func() string
}

type digestServer struct {
	config DigestConfig
	nonce  string
	step   int
	user   string
}

// NewDigestServer starts the broker's side. It fails when the realm is not one that
// every client can read.
func NewDigestServer(c DigestConfig) (Server, error) {
	if c.Realm == "" || strings.Trim(c.Realm, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") != "" {
		return nil, fmt.Errorf("%s: realm %q: not letters, digits, dots and hyphens", DigestMD5, c.Realm)
	}
	if c.Nonce == nil {
		c.Nonce = rand.Text
	}
	return &digestServer{config: c}, nil
}

func (d *digestServer) Name() string { return DigestMD5 }
func (d *digestServer) User() string { return d.user }

// Next goes nil -> response.
func (d *digestServer) Next(in []byte) (out []byte, done bool, err error) {
	d.step++
	switch {
	case d.step == 1 && in == nil:
		return d.challenge(), false, nil
	case d.step == 2:
		out, err = d.check(in)
	default:
		err = ErrProtocol
	}
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", DigestMD5, err)
	}
	return out, true, nil
}

// challenge has every field that clients crash without, no blanks, no commas within
// values, and the word utf8 in place of RFC 2831's utf-8.
func (d *digestServer) challenge() []byte {
	d.nonce = d.config.Nonce()
	return fmt.Appendf(nil, `realm="%s",nonce="%s",qop="auth",algorithm=md5-sess,charset=utf8`, d.config.Realm, d.nonce)
}

// check takes any digest-uri: it is the broker's name as the user wrote it.
func (d *digestServer) check(in []byte) ([]byte, error) {
	f, err := parseFields(in)
	if err != nil {
		return nil, err
	}
	user := f["username"]
	switch {
	case f["realm"] != d.config.Realm, f["nonce"] != d.nonce, f["nc"] != nonceCount,
		user == "", f["cnonce"] == "", f["digest-uri"] == "":
		return nil, fmt.Errorf("%w: not an answer to the challenge", ErrAuth)
	}
	if qop, ok := f["qop"]; ok && !strings.EqualFold(qop, "auth") {
		return nil, fmt.Errorf("%w: qop %q", ErrAuth, clip(qop))
	}
	secret, known := d.config.Lookup(user)
	if !known {
		secret = decoyDigest(user)
	}
	e := exchange{secret: secret, nonce: d.nonce, cnonce: f["cnonce"], uri: f["digest-uri"]}
	if same := sameHex(f["response"], e.response()); !same || !known {
		return nil, ErrAuth
	}
	d.user = user
	return []byte("rspauth=" + e.rspauth()), nil
}

// decoyDigest is what a user that does not exist is compared with.
func decoyDigest(user string) (d Digest) {
	key := decoy()
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(user))
	copy(d[:], mac.Sum(nil))
	return d
}
