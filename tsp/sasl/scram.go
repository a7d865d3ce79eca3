package sasl

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
)

// Bounds of the work that a broker may ask a client to do for one login (RFC 7677,
// Section 4 has at least 4096).
const (
	minIterations = 4096
	maxIterations = 1_000_000
	maxScram      = 2048 // bytes of a message
)

type scramClient struct {
	conv *scram.ClientConversation
	step int
}

func newScramClient(c Credentials) (Client, error) {
	client, err := scram.SHA256.NewClient(c.User, c.Password, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ScramSHA256, err)
	}
	if c.Nonce != nil {
		client = client.WithNonceGenerator(c.Nonce)
	}
	return &scramClient{conv: client.WithMinIterations(minIterations).NewConversation()}, nil
}

func (s *scramClient) Name() string { return ScramSHA256 }

// Next goes nil -> server first -> server final.
func (s *scramClient) Next(in []byte) ([]byte, bool, error) {
	s.step++
	if (in == nil) != (s.step == 1) || s.step > 3 || len(in) > maxScram {
		return nil, false, fmt.Errorf("%s: %w", ScramSHA256, ErrProtocol)
	}
	if s.step == 2 && !bearable(string(in)) {
		return nil, false, fmt.Errorf("%s: %w: not %d to %d iterations", ScramSHA256, ErrProtocol, minIterations, maxIterations)
	}
	out, err := s.conv.Step(string(in))
	if err != nil {
		return nil, false, scramError(s.step, err)
	}
	if s.step < 3 {
		return []byte(out), false, nil
	}
	if !s.conv.Valid() {
		return nil, false, fmt.Errorf("%s: %w: the broker does not know the password", ScramSHA256, ErrAuth)
	}
	return nil, true, nil
}

// bearable reports whether the broker asks for a number of iterations that is
// neither too cheap to guess nor hours of work.
func bearable(serverFirst string) bool {
	for field := range strings.SplitSeq(serverFirst, ",") {
		if value, ok := strings.CutPrefix(field, "i="); ok {
			n, err := strconv.Atoi(value)
			return err == nil && n >= minIterations && n <= maxIterations
		}
	}
	return false
}

// scramError sorts errors: the last message proves a secret, those before it do not.
// The text is quoted because it may hold what the far end sent.
func scramError(step int, err error) error {
	kind := ErrProtocol
	if step == 3 {
		kind = ErrAuth
	}
	return fmt.Errorf("%s: %w: %q", ScramSHA256, kind, clip(err.Error()))
}

// ScramKeys is all that a broker stores of a password for SCRAM-SHA-256.
type ScramKeys struct {
	Salt       []byte // 16 random bytes
	Iterations int    // 4096 to 1 000 000
	StoredKey  []byte
	ServerKey  []byte
}

// NewScramKeys makes the keys of a user; it is as slow as Iterations says.
func NewScramKeys(user, password string, salt []byte, iterations int) (ScramKeys, error) {
	if iterations < minIterations || iterations > maxIterations {
		return ScramKeys{}, fmt.Errorf("%s: %d iterations, not %d to %d", ScramSHA256, iterations, minIterations, maxIterations)
	}
	client, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		return ScramKeys{}, fmt.Errorf("%s: %w", ScramSHA256, err)
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: iterations})
	if err != nil {
		return ScramKeys{}, fmt.Errorf("%s: %w", ScramSHA256, err)
	}
	return ScramKeys{Salt: salt, Iterations: iterations, StoredKey: stored.StoredKey, ServerKey: stored.ServerKey}, nil
}

type scramServer struct {
	conv  *scram.ServerConversation
	known bool
	step  int
	user  string
}

// NewScramServer starts the broker's side. For a user that lookup does not find, the
// dialogue goes on with keys that no password has, the same ones every time.
func NewScramServer(lookup func(user string) (k ScramKeys, ok bool)) (Server, error) {
	s := new(scramServer)
	server, err := scram.SHA256.NewServer(func(user string) (scram.StoredCredentials, error) {
		k, ok := lookup(user)
		if s.known = ok; !ok {
			k = decoyKeys(user)
		}
		return scram.StoredCredentials{
			KeyFactors: scram.KeyFactors{Salt: string(k.Salt), Iters: k.Iterations},
			StoredKey:  k.StoredKey, ServerKey: k.ServerKey,
		}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ScramSHA256, err)
	}
	s.conv = server.NewConversation()
	return s, nil
}

func (s *scramServer) Name() string { return ScramSHA256 }
func (s *scramServer) User() string { return s.user }

var errIdentity = errors.New("an authorization identity")

// Next goes client first -> client final. The first may come with the mechanism's
// name; when it does not, Next(nil) waits for it.
func (s *scramServer) Next(in []byte) ([]byte, bool, error) {
	if in == nil && s.step == 0 {
		return nil, false, nil
	}
	s.step++
	if in == nil || s.step > 2 || len(in) > maxScram {
		return nil, false, fmt.Errorf("%s: %w", ScramSHA256, ErrProtocol)
	}
	out, err := s.conv.Step(string(in))
	if err == nil && s.conv.AuthzID() != "" {
		err = errIdentity
	}
	if err != nil {
		return nil, false, scramError(s.step+1, err)
	}
	if s.step == 1 {
		return []byte(out), false, nil
	}
	if !s.conv.Valid() || !s.known {
		return nil, false, fmt.Errorf("%s: %w", ScramSHA256, ErrAuth)
	}
	s.user = s.conv.Username()
	return []byte(out), true, nil
}

// decoyKeys are the keys of a user that does not exist.
func decoyKeys(user string) ScramKeys {
	derive := func(what string) []byte {
		key := decoy()
		mac := hmac.New(sha256.New, key[:])
		mac.Write([]byte(what + user))
		return mac.Sum(nil)
	}
	return ScramKeys{
		Salt: derive("salt:")[:16], Iterations: DefaultIterations,
		StoredKey: derive("stored:"), ServerKey: derive("server:"),
	}
}

// DefaultIterations is what a broker should use for all its users: others would show
// which of them exist.
const DefaultIterations = 16384
