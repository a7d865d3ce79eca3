package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"sixin4/cmd/internal/exit"
)

// Raw is a configuration as it was written.
type Raw map[Key][]Value

// Value is the text of one value and its origin.
type Value struct {
	Text   string
	Origin Origin

	old *oldValue // nil unless it comes from an old file
}

// Origin is where a value was written. The zero Origin is the command line.
type Origin struct {
	File string
	Line int // from 1; 0 when the file leaves it to a default
}

// oldValue is how an old file says what became a Value.
type oldValue struct {
	key, text string
	secret    Secret // instead of both texts
}

// Set gives key the value from the command line; a setting that may be given
// several times gets one more.
func (r Raw) Set(key Key, text string) {
	if !IsList(key) {
		r[key] = nil
	}
	r[key] = append(r[key], Value{Text: text})
}

// Has reports whether key has a value.
func (r Raw) Has(key Key) bool { return len(r[key]) > 0 }

// alternatives are keys that say the same in different ways, so that any one of
// them replaces all.
var alternatives = [][]Key{{Remote, Peers}, {PasswordFile, oldPassword}}

// Merge fills in from file what r does not have: flags win over the file.
// remote and peer are two ways to say the same, so either one replaces both, and
// so are a password file and the password in an old file.
func (r Raw) Merge(file Raw) {
	said := make(map[Key]bool)
	for key := range r {
		said[key] = len(r[key]) > 0
	}
	for _, group := range alternatives {
		if slices.ContainsFunc(group, func(k Key) bool { return said[k] }) {
			for _, key := range group {
				said[key] = true
			}
		}
	}
	for key, values := range file {
		if !said[key] {
			r[key] = slices.Clone(values)
		}
	}
}

// last returns the value of a key that has one: of several the last one.
func (r Raw) last(key Key) (v Value, given bool) {
	if vs := r[key]; len(vs) > 0 {
		return vs[len(vs)-1], true
	}
	return Value{}, false
}

// invalid says in one line which value is wrong, and why.
func invalid(key Key, v Value, reason string) error {
	if v.Origin.File == "" {
		return exit.With(exit.Usage, fmt.Errorf("--%s %s: %s", key, brief(v.Text, shown), reason))
	}
	return exit.With(exit.Config, fmt.Errorf("%s: %s: %s", v.Origin, v.assignment(key), reason))
}

// String is file and line as messages name them.
func (o Origin) String() string {
	if o.Line == 0 {
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// name is the key as it stands where v was written.
func (v Value) name(key Key) string {
	switch {
	case v.old != nil:
		return v.old.key
	case v.Origin.File == "":
		return "--" + string(key)
	}
	return string(key)
}

// assignment is what stands in the file, without a password.
func (v Value) assignment(key Key) string {
	text := v.Text
	if v.old != nil {
		if !v.old.secret.IsZero() {
			return v.name(key)
		}
		text = v.old.text
	}
	return fmt.Sprintf("%s = %s", v.name(key), inQuotes(text))
}

// shown is a text as somebody would type it: in quotes when it is empty, or when
// one would not see where it ends.
func shown(text string) string {
	odd := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }
	if text == "" || !utf8.ValidString(text) || strings.ContainsFunc(text, odd) {
		return strconv.Quote(text)
	}
	return text
}

// mostShown is how many characters of a value stand in a message: all of nearly every path.
const mostShown = 200

// brief is a text as quote shows it, the beginning of one that is very long.
func brief(text string, quote func(string) string) string {
	n := 0
	for i := range text {
		if n == mostShown {
			return quote(text[:i]) + "..."
		}
		n++
	}
	return quote(text)
}

// inQuotes is a text in quotes, brief.
func inQuotes(text string) string { return brief(text, strconv.Quote) }

// asIs quotes nothing.
func asIs(text string) string { return text }
