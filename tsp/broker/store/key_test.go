package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestKeySeals(t *testing.T) {
	k, err := NewKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.Seal([]byte("text"), "here")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Open(sealed, "here"); err != nil || string(got) != "text" {
		t.Errorf("opened: %q, %v", got, err)
	}
	again, err := k.Seal([]byte("text"), "here")
	if err != nil || bytes.Equal(sealed, again) || bytes.Contains(sealed, []byte("text")) {
		t.Errorf("%x, then %x, %v", sealed, again, err)
	}
	other, _ := NewKey(bytes.Repeat([]byte{2}, 32))
	changed := bytes.Clone(sealed)
	changed[len(changed)-1]++
	tests := []struct {
		name   string
		key    *Key
		sealed []byte
		place  string
	}{
		{"other key", other, sealed, "here"},
		{"no key", nil, sealed, "here"},
		{"other place", k, sealed, "there"},
		{"changed", k, changed, "here"},
		{"cut", k, sealed[:5], "here"},
		{"empty", k, nil, "here"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := tt.key.Open(tt.sealed, tt.place); !errors.Is(err, ErrKey) {
				t.Errorf("opened: %q, %v", got, err)
			}
		})
	}
	if _, err := (*Key)(nil).Seal(nil, ""); !errors.Is(err, ErrKey) {
		t.Errorf("sealed without a key: %v", err)
	}
}

// TestOpenKey: whoever starts first makes the file, for all.
func TestOpenKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	sealed := make(chan []byte, 8)
	var wg sync.WaitGroup
	for range cap(sealed) {
		wg.Go(func() {
			k, err := OpenKey(path)
			if err != nil {
				t.Error(err)
				return
			}
			text, err := k.Seal([]byte("x"), "")
			if err != nil {
				t.Error(err)
			}
			sealed <- text
		})
	}
	wg.Wait()
	close(sealed)
	k, err := OpenKey(path)
	if err != nil {
		t.Fatal(err)
	}
	for text := range sealed {
		if _, err := k.Open(text, ""); err != nil {
			t.Error("not all have the same key")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Errorf("file %v, %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOpenKeyRefuses(t *testing.T) {
	tests := []struct {
		name string
		size int
		mode os.FileMode
	}{
		{"short", 31, 0o600},
		{"long", 33, 0o600},
		{"empty", 0, 0o600},
		{"for all", 32, 0o644},
		{"for the group", 32, 0o640},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, make([]byte, tt.size), tt.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenKey(path); !errors.Is(err, ErrKey) {
				t.Errorf("opened: %v", err)
			}
		})
	}
	if _, err := OpenKey(filepath.Join(t.TempDir(), "no", "directory")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
