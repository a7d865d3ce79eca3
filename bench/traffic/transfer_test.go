package traffic

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
)

func contains(err error, s string) bool { return err != nil && strings.Contains(err.Error(), s) }

func TestTransfer(t *testing.T) {
	const size = 3<<20 + 7
	got, err := Transfer(t.Context(), Local{}, Local{}, loopback6, size)
	if err != nil {
		t.Fatal(err)
	}
	if got.Bytes != size || got.Seconds <= 0 || got.BitsPerSecond() <= 0 {
		t.Errorf("got %+v, want %d bytes in some time", got, size)
	}
	if want := sha256.Sum256(pseudoRandom(size)); got.Sum != want {
		t.Errorf("sum %x, want %x", got.Sum, want)
	}
}

func TestTransferComparesContent(t *testing.T) {
	sent := pseudoRandom(1000)
	for _, test := range []struct {
		name   string
		change func([]byte)
		want   error
	}{
		{"unchanged", func([]byte) {}, nil},
		{"one bit", func(b []byte) { b[999] ^= 1 }, ErrContent},
		{"swapped halves", func(b []byte) { copy(b, append(bytes.Clone(b[500:]), b[:500]...)) }, ErrContent},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := bytes.Clone(sent)
			test.change(got)
			if _, err := compare(sent, got); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// broken is a place where nothing can be opened.
type broken struct{ error }

func (b broken) Do(func() error) error { return b.error }

func TestTransferFails(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	boom := errors.New("boom")
	for _, test := range []struct {
		name     string
		ctx      context.Context
		from, to Place
		want     error
	}{
		{"canceled", canceled, Local{}, Local{}, context.Canceled},
		{"no listener", t.Context(), Local{}, broken{boom}, boom},
		{"no connection", t.Context(), broken{boom}, Local{}, boom},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Transfer(test.ctx, test.from, test.to, loopback4, 1000); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}
