package load

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"sixin4/tsp/sasl"
)

// keys are the salted passwords that were made before. A client that keeps its own
// (RFC 5802, Section 5.1) logs in for some microseconds, so that what is measured is
// the broker.
type keys struct {
	mu    sync.Mutex
	known map[string][]byte
}

// salted is PBKDF2 of a password.
func (k *keys) salted(password string, salt []byte, iterations int) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := fmt.Sprintf("%d %x %s", iterations, salt, password)
	if s := k.known[id]; s != nil {
		return s, nil
	}
	s, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return nil, err
	}
	if k.known == nil {
		k.known = make(map[string][]byte)
	}
	k.known[id] = s
	return s, nil
}

// scram is a client's SCRAM-SHA-256 (RFC 5802, Section 3; RFC 7677).
type scram struct {
	keys           *keys
	user, password string
	guess          bool // any proof will do: it is to be refused

	bare, nonce string
	signature   []byte // that the broker must have
	step        int
}

// Name implements tsp.Mechanism.
func (s *scram) Name() string { return sasl.ScramSHA256 }

// Next implements tsp.Mechanism: nothing, server first, server final.
func (s *scram) Next(in []byte) (out []byte, done bool, err error) {
	switch s.step++; s.step {
	case 1:
		s.nonce = rand.Text()
		s.bare = "n=" + s.user + ",r=" + s.nonce
		return []byte("n,," + s.bare), false, nil
	case 2:
		out, err := s.proof(string(in))
		return out, false, err
	}
	want := "v=" + base64.StdEncoding.EncodeToString(s.signature)
	if !bytes.Equal(in, []byte(want)) {
		return nil, false, fmt.Errorf("scram: %w: the broker does not know the password", sasl.ErrAuth)
	}
	return nil, true, nil
}

// proof answers the server's first message.
func (s *scram) proof(first string) ([]byte, error) {
	fields := make(map[string]string)
	for f := range strings.SplitSeq(first, ",") {
		key, value, _ := strings.Cut(f, "=")
		fields[key] = value
	}
	salt, err := base64.StdEncoding.DecodeString(fields["s"])
	n, err2 := strconv.Atoi(fields["i"])
	if err != nil || err2 != nil || !strings.HasPrefix(fields["r"], s.nonce) {
		return nil, fmt.Errorf("scram: %w: %q", sasl.ErrProtocol, first)
	}
	salted := []byte(s.password)
	if !s.guess {
		if salted, err = s.keys.salted(s.password, salt, n); err != nil {
			return nil, err
		}
	}
	last := "c=biws,r=" + fields["r"]
	message := s.bare + "," + first + "," + last
	key := mac(salted, "Client Key")
	stored := sha256.Sum256(key)
	proof := mac(stored[:], message)
	for i := range proof {
		proof[i] ^= key[i]
	}
	s.signature = mac(mac(salted, "Server Key"), message)
	return []byte(last + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
