package config

import (
	"fmt"
	"io"
	"log/slog"
)

// hidden stands for a Secret wherever it could be read.
const hidden = "[hidden]"

// Secret is a password. It shows itself to nobody who does not ask by Reveal:
// printed with any verb, logged or encoded it is a fixed word. The zero Secret is
// none. The text is behind a pointer because package fmt prints the content of an
// unexported field without asking it.
type Secret struct {
	text *string
}

// NewSecret hides text; an empty text is no secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the text, empty when there is none.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

// String returns a fixed word.
func (Secret) String() string { return hidden }

// GoString returns a fixed word.
func (Secret) GoString() string { return hidden }

// Format writes a fixed word, whatever the verb.
func (Secret) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, hidden) }

// LogValue returns a fixed word.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalJSON returns a fixed word as a JSON text.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalText returns a fixed word, for every other encoder.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
