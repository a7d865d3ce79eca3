// Package wireguard is a reference that the engine is measured against: a tunnel of
// WireGuard in user space, by its authors' own code in Go. It encrypts, which ours do
// not; it is what a user would take instead.
package wireguard

import (
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
)

// MTU is what wireguard-go and wg-quick give an interface over a link of 1500 bytes.
const MTU = 1420

// Config is one end of a tunnel. All fields but Ready are needed.
type Config struct {
	Name   string         // of the TUN interface, which must not exist yet
	Port   uint16         // UDP port of this end
	Remote netip.AddrPort // the other end
	Seed   string         // both ends make the keys of both from it
	First  bool           // which end this is
	Ready  func()         // called once, when the interface is there
}

// Run makes the TUN interface and carries packets until ctx is done, then returns nil.
// The interface's address and state are the caller's.
func Run(ctx context.Context, cfg Config) error {
	settings, err := cfg.settings()
	if err != nil {
		return err
	}
	return run(ctx, cfg, settings)
}

// settings is cfg in the words of the configuration protocol
// (https://www.wireguard.com/xplatform/, from memory).
func (c Config) settings() (string, error) {
	if !c.Remote.IsValid() || c.Port == 0 {
		return "", fmt.Errorf("wireguard: port %d, remote %v: both must be given", c.Port, c.Remote)
	}
	own, err := key(c.Seed, c.First)
	if err != nil {
		return "", err
	}
	other, err := key(c.Seed, !c.First)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("private_key=%s\nlisten_port=%d\npublic_key=%s\nendpoint=%v\nallowed_ip=::/0\n",
		hex.EncodeToString(own.Bytes()), c.Port, hex.EncodeToString(other.PublicKey().Bytes()), c.Remote), nil
}

// key makes the key of one end.
func key(seed string, first bool) (*ecdh.PrivateKey, error) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %t", seed, first))
	return ecdh.X25519().NewPrivateKey(sum[:])
}
