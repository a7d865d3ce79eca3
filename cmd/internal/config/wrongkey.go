package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// upOnly says about the keys of `sixin4 up` what there is in their place in a file
// of `sixin4 connect`.
var upOnly = map[Key]string{
	Remote:  `the broker says where the far end is; the key for the broker is "server"`,
	Peers:   `a tunnel from a broker has one far end; the key for the broker is "server"`,
	Address: "the broker gives the addresses",
	Route:   `the default route goes into the tunnel, unless "no-route" is true`,
}

var errPasswordKey = errors.New(`a password does not stand here; ` +
	`write it into a file of its own and give its path as "password-file"`)

// unknown is about a key that does not belong into this file.
func (f *file) unknown(key string) error {
	connect := slices.Contains(f.keys, PasswordFile)
	why, isUp := upOnly[Key(key)]
	switch {
	case connect && isPassword(key):
		return fmt.Errorf("%s: %w", key, errPasswordKey)
	case connect && isUp:
		return fmt.Errorf("%s: a key of sixin4 up; %s", key, why)
	}
	var known []string
	for _, k := range f.keys {
		known = append(known, string(k))
	}
	if n := Nearest(key, known); n != "" {
		return fmt.Errorf("unknown key %s; the nearest known key is %q", inQuotes(key), n)
	}
	slices.Sort(known)
	return fmt.Errorf("unknown key %s; the known keys are %s", inQuotes(key), strings.Join(known, ", "))
}

func isPassword(key string) bool { return key == "password" || key == "passwd" }

// lineOf returns line n of data, counted from 1, without its end.
func lineOf(data []byte, n int) string {
	for ; n > 1; n-- {
		_, rest, found := bytes.Cut(data, []byte("\n"))
		if !found {
			return ""
		}
		data = rest
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return strings.TrimSuffix(string(line), "\r")
}

// notTOML says what is wrong with a line on which the decoder gave up. Nearly
// always a text has no quotes, which the decoder puts in terms of its grammar.
func notTOML(path string, n int, line string, err error) error {
	key, value, found := strings.Cut(line, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if i := strings.Index(value, " #"); i > 0 {
		value = strings.TrimSpace(value[:i])
	}
	switch {
	case found && isPassword(key):
		return fmt.Errorf("%s:%d: %s: %w", path, n, key, errPasswordKey)
	case !found, value == "", !onlyQuotes(key, value):
		return fmt.Errorf("%s:%d: %s", path, n, brief(err.Error(), asIs))
	}
	return fmt.Errorf("%s:%d: %s = %s: text needs quotes: %s = %s", path, n, brief(key, asIs), brief(value, asIs), brief(key, asIs), brief(quoted(value), asIs))
}

// quoted puts quotes around a value, or around each of a list.
func quoted(value string) string {
	if inner, list := strings.CutPrefix(value, "["); list && strings.HasSuffix(value, "]") {
		var items []string
		for item := range strings.SplitSeq(strings.TrimSuffix(inner, "]"), ",") {
			items = append(items, fmt.Sprintf("%q", strings.TrimSpace(item)))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return fmt.Sprintf("%q", value)
}

// onlyQuotes reports whether a line is TOML with quotes around its value, has none
// and is no TOML without them.
func onlyQuotes(key, value string) bool {
	if strings.ContainsAny(value, `"'{#`) {
		return false
	}
	var any map[string]any
	bare, better := fmt.Appendf(nil, "%s = %s\n", key, value), fmt.Appendf(nil, "%s = %s\n", key, quoted(value))
	return toml.Unmarshal(bare, &any) != nil && toml.Unmarshal(better, &any) == nil
}
