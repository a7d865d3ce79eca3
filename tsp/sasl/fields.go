package sasl

import (
	"fmt"
	"strings"
)

// Bounds of a digest message. The longest seen has 200 bytes and nine fields.
const (
	maxDigest = 2048
	maxFields = 32
)

// parseFields reads name=value,name="value" as both sides of DIGEST-MD5 write it:
// quoted or bare, and with blanks around the commas, which is in RFC 2831 (Section
// 7.1, from memory) though old programs cannot read it. Names are lower-cased. A name
// twice is an error, but for realm, of which the first is taken.
func parseFields(in []byte) (map[string]string, error) {
	s := string(in)
	if len(s) > maxDigest {
		return nil, fmt.Errorf("%w: %d bytes", ErrProtocol, len(s))
	}
	fields := make(map[string]string)
	for n := 0; ; n++ {
		if s = strings.TrimLeft(s, ", \t\r\n"); s == "" {
			return fields, nil
		}
		name, rest, ok := strings.Cut(s, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" || n == maxFields {
			return nil, fmt.Errorf("%w: %q is no field", ErrProtocol, clip(s))
		}
		value, rest, err := parseValue(rest)
		if err != nil {
			return nil, err
		}
		if _, twice := fields[name]; twice && name != "realm" {
			return nil, fmt.Errorf("%w: %q twice", ErrProtocol, clip(name))
		} else if !twice {
			fields[name] = value
		}
		s = rest
	}
}

// parseValue reads a value up to the comma behind it or the end.
func parseValue(s string) (value, rest string, err error) {
	s = strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ",")
		value = strings.TrimSpace(value)
	} else if value, rest, err = parseQuoted(s[1:]); err != nil {
		return "", "", err
	}
	if i := strings.IndexFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return "", "", fmt.Errorf("%w: control character in %q", ErrProtocol, clip(value))
	}
	return value, rest, nil
}

// parseQuoted reads what follows a quote, up to the next one and the comma behind it.
func parseQuoted(s string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == '"':
			rest = strings.TrimLeft(s[i+1:], " \t\r\n")
			if rest != "" && rest[0] != ',' {
				return "", "", fmt.Errorf("%w: %q behind a quote", ErrProtocol, clip(rest))
			}
			return b.String(), rest, nil
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("%w: a quote without its end", ErrProtocol)
}

// escape is the inside of a quoted value.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
}

// clip shortens what an error quotes.
func clip(s string) string { return s[:min(len(s), 64)] }
