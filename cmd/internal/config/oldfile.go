package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxOldLine bounds a line of an old file in bytes, its end not counted.
const maxOldLine = 2047

// maxDoubts is after how many lines that are ignored the others are only counted.
const maxDoubts = 20

// oldKeys are the keys of old files that mean something here.
var oldKeys = []string{
	"userid", "passwd", "server", "auth_method",
	"host_type", "prefixlen", "if_prefix", "dns_server",
	"gogoc_dir", "gw6c_dir", "tsp_dir", "template",
	"retry_delay", "retry_delay_max", "keepalive", "keepalive_interval",
	"tunnel_mode", "if_tunnel_v6v4", "if_tunnel_v6udpv4", "client_v4", "proxy_client",
	"broker_list", "last_server", "always_use_same_server",
	"log_console", "log_stderr", "log_file", "log_syslog", "log_filename", "syslog_facility",
}

// idleKeys are those that mean nothing here: IPv4 in IPv6, the home access of some
// builds, turning log files over, what older programs had, and auto_retry_connect,
// which has no effect in programs of old either: they try again whatever it says. A
// star is any rest.
var idleKeys = []string{
	"auto_retry_connect",
	"if_tunnel_v4v6", "client_v6", "dslite_server", "dslite_client",
	"haccess_*", "hap6_*", "log_rotation*", "protocol", "routing_info", "syslog*",
}

func isIdle(key string) bool {
	return slices.ContainsFunc(idleKeys, func(k string) bool {
		prefix, star := strings.CutSuffix(k, "*")
		return key == k || star && strings.HasPrefix(key, prefix)
	})
}

// oldLine is one value and its line.
type oldLine struct {
	text string
	line int
}

// oldFile is an old file while it is being read: `key=value` lines, blanks around
// both of no meaning, the last value of a key the one that counts. An empty value
// is none. A line whose first letter is # is a comment; a # behind a value is part
// of it.
type oldFile struct {
	path     string
	dir      string
	values   map[string]oldLine
	raw      Raw
	legacy   Legacy
	warnings []string
	doubts   int
}

func (f *oldFile) warn(line int, format string, args ...any) {
	f.warnings = append(f.warnings, fmt.Sprintf("%s: %s", Origin{f.path, line}, fmt.Sprintf(format, args...)))
}

// doubt warns about a line that is not used, the first maxDoubts times.
func (f *oldFile) doubt(line int, format string, args ...any) {
	if f.doubts++; f.doubts <= maxDoubts {
		f.warn(line, format, args...)
	}
}

// read takes the file apart into values, and warns about what will not be used. No
// message shows a line: it may hold the password.
func (f *oldFile) read(data []byte) error {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	n := 0
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		n++
		line = bytes.TrimSuffix(line, []byte("\r"))
		if err := checkOldLine(line); err != nil {
			return fmt.Errorf("%s: %w", Origin{f.path, n}, err)
		}
		if text := strings.TrimSpace(string(line)); text != "" && text[0] != '#' {
			f.assign(text, n)
		}
	}
	if more := f.doubts - maxDoubts; more > 0 {
		f.warn(0, "%d more lines are ignored; is this a configuration file of tspc?", more)
	}
	f.warnIdle()
	return nil
}

func checkOldLine(line []byte) error {
	switch {
	case len(line) > maxOldLine:
		return fmt.Errorf("a line of %d characters; at most %d", len(line), maxOldLine)
	case bytes.IndexByte(line, 0) >= 0:
		return errors.New("a zero byte; this is no text file")
	case !utf8.Valid(line):
		return errors.New("not UTF-8; save the file as UTF-8 or ASCII")
	case bytes.ContainsFunc(line, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }):
		return errors.New("a control character in the line")
	}
	return nil
}

func (f *oldFile) assign(text string, n int) {
	key, value, found := strings.Cut(text, "=")
	key = strings.TrimSpace(key)
	if !found || !isWord(key) {
		f.doubt(n, "ignored, as it is no key=value")
		return
	}
	f.values[key] = oldLine{strings.TrimSpace(value), n}
	if slices.Contains(oldKeys, key) || isIdle(key) {
		return
	}
	if near := Nearest(key, oldKeys); near != "" {
		f.doubt(n, "unknown key %s ignored; the nearest known key is %q", inQuotes(key), near)
		return
	}
	f.doubt(n, "unknown key %s ignored", inQuotes(key))
}

// isWord reports whether s could be a key, and so may be shown.
func isWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

// warnIdle names all keys that mean nothing here in one line.
func (f *oldFile) warnIdle() {
	var idle []string
	for _, key := range slices.Sorted(maps.Keys(f.values)) {
		if isIdle(key) && !slices.Contains(oldKeys, key) {
			idle = append(idle, key)
		}
	}
	if len(idle) > 0 {
		f.warn(0, "these keys have no meaning here: %s", strings.Join(idle, ", "))
	}
}

// word returns the value of a key in small letters, for keys whose values are
// words, or otherwise when the file has none.
func (f *oldFile) word(key, otherwise string) string {
	if text := f.values[key].text; text != "" {
		return strings.ToLower(text)
	}
	return otherwise
}

// choice is a word out of several.
func (f *oldFile) choice(key string, words ...string) (string, error) {
	word := f.word(key, words[0])
	if slices.Contains(words, word) {
		return word, nil
	}
	last := len(words) - 1
	return "", f.invalid(key, fmt.Sprintf("not one of its values; %s or %s", strings.Join(words[:last], ", "), words[last]))
}

// yesNo is a choice whose default stands first.
func (f *oldFile) yesNo(key string, byDefault bool) (bool, error) {
	text := map[bool]string{true: "yes", false: "no"}[byDefault]
	switch f.word(key, text) {
	case "yes":
		return true, nil
	case "no":
		return false, nil
	}
	return false, f.invalid(key, "neither yes nor no")
}

func (f *oldFile) number(key string, byDefault, min, max int, right string) (int, error) {
	text := f.values[key].text
	if text == "" {
		return byDefault, nil
	}
	n, err := parseNumber(text, min, max, right)
	if err != nil {
		return 0, f.invalid(key, err.Error())
	}
	return n, nil
}

// absolute is the path that a key names.
func (f *oldFile) absolute(key, byDefault string) string {
	path := f.values[key].text
	if path == "" {
		path = byDefault
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(f.dir, path)
}

// set hands the value of old on as that of key, in the words of key.
func (f *oldFile) set(key Key, old string, texts ...string) {
	for _, text := range texts {
		v := f.value(old)
		v.Text = text
		f.raw[key] = append(f.raw[key], v)
	}
}

// value is what stands in the file.
func (f *oldFile) value(old string) Value {
	at := f.values[old]
	return Value{Text: at.text, Origin: Origin{f.path, at.line}, old: &oldValue{key: old, text: at.text}}
}

// invalid blames the value of a key. What looks like a comment behind the value is
// pointed out, as that is none here.
func (f *oldFile) invalid(old, reason string) error {
	v := f.value(old)
	if i := strings.IndexByte(v.Text, '#'); i > 0 && unicode.IsSpace(rune(v.Text[i-1])) {
		reason += " (a comment needs a line of its own)"
	}
	return invalid("", v, reason)
}
