package exit

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestCode(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want int
	}{
		{"no error", nil, OK},
		{"nil carried", With(Usage, nil), OK},
		{"plain error", io.EOF, Failure},
		{"carried", With(Config, io.EOF), Config},
		{"wrapped", fmt.Errorf("up: %w", With(Permission, io.EOF)), Permission},
		{"outermost wins", With(Usage, With(Config, io.EOF)), Usage},
		{"joined", errors.Join(io.EOF, With(TryAgain, io.EOF)), TryAgain},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Code(tt.err); got != tt.want {
				t.Errorf("Code(%v) = %d, want %d", tt.err, got, tt.want)
			}
		})
	}
}

func TestErrorKeepsTextAndCause(t *testing.T) {
	err := With(Usage, fmt.Errorf("read: %w", io.EOF))
	if err.Error() != "read: EOF" || !errors.Is(err, io.EOF) {
		t.Errorf("got %q, want the text and the cause of the error carried", err)
	}
}
