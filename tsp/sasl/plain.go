package sasl

import (
	"bytes"
	"fmt"
)

type plainClient struct{ c Credentials }

func (p *plainClient) Name() string { return Plain }

// Next gives the credentials away at once.
func (p *plainClient) Next(in []byte) ([]byte, bool, error) {
	if in != nil {
		return nil, false, fmt.Errorf("%s: %w: it has one message", Plain, ErrProtocol)
	}
	return []byte("\x00" + p.c.User + "\x00" + p.c.Password), true, nil
}

// PasswordCheck reports whether a password is a user's. Compare with [SamePassword],
// and take as long for a user that does not exist.
type PasswordCheck func(user, password string) bool

type plainServer struct {
	check PasswordCheck
	user  string
}

// NewPlainServer waits for a user and a password.
func NewPlainServer(check PasswordCheck) Server { return &plainServer{check: check} }

func (p *plainServer) Name() string { return Plain }
func (p *plainServer) User() string { return p.user }

// Next reads zero bytes, any number of them since clients end the line before with
// one, the user, a zero byte and the password. Another zero byte would mean that
// there is an authorization identity, which nobody may have.
func (p *plainServer) Next(in []byte) ([]byte, bool, error) {
	if in == nil {
		return nil, false, nil
	}
	user, password, ok := bytes.Cut(bytes.TrimLeft(in, "\x00"), []byte{0})
	if !ok || len(user) == 0 || bytes.IndexByte(password, 0) >= 0 {
		return nil, false, fmt.Errorf("%s: %w: %w", Plain, ErrAuth, ErrProtocol)
	}
	if !p.check(string(user), string(password)) {
		return nil, false, fmt.Errorf("%s: %w", Plain, ErrAuth)
	}
	p.user = string(user)
	return nil, true, nil
}
