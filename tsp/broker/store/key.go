package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// keySize is that of AES-256.
const keySize = 32

// Key encrypts what is as good as a password before it goes to the database:
// AES-256-GCM with random nonces. It is safe for some 2^32 texts, far more than there
// are users.
type Key struct {
	aead cipher.AEAD
}

// NewKey makes a Key of 32 secret bytes.
func NewKey(secret []byte) (*Key, error) {
	if len(secret) != keySize {
		return nil, fmt.Errorf("key: %w: %d bytes instead of %d", ErrKey, len(secret), keySize)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return &Key{aead}, nil
}

// OpenKey reads the key in a file, and makes the file, for the owner only, when there
// is none. Keep it where the database's backups are not: together they are the
// passwords of the users with legacy login.
func OpenKey(path string) (*Key, error) {
	k, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := makeKey(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	return readKey(path)
}

// MakeKey makes the key in a new file, for the owner only. The error wraps fs.ErrExist
// when there is such a file.
func MakeKey(path string) (*Key, error) {
	if err := makeKey(path); err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	return readKey(path)
}

func readKey(path string) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s: %w: others may read it: chmod 600", path, ErrKey)
	}
	secret, err := io.ReadAll(io.LimitReader(f, keySize+1))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	k, err := NewKey(secret)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return k, nil
}

// makeKey makes the file whole or not at all: two processes may start at once, so it
// is linked to its name when it is complete.
func makeKey(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	secret := make([]byte, keySize)
	rand.Read(secret)
	_, err = f.Write(secret)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir brings a new name to the disk: what was encrypted must not outlive its key.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Seal encrypts text for one place, which Open must name again: moved elsewhere in the
// database it cannot be read.
func (k *Key) Seal(text []byte, place string) ([]byte, error) {
	if k == nil {
		return nil, fmt.Errorf("encrypt: %w", ErrKey)
	}
	return k.aead.Seal(nil, nil, text, []byte(place)), nil
}

// Open decrypts. The error wraps ErrKey when the key, the place or the bytes are not
// those of Seal.
func (k *Key) Open(sealed []byte, place string) ([]byte, error) {
	if k == nil {
		return nil, fmt.Errorf("decrypt: %w", ErrKey)
	}
	text, err := k.aead.Open(nil, nil, sealed, []byte(place))
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", ErrKey)
	}
	return text, nil
}
