package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
)

// write makes a configuration file with the given text.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "up.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadFile(t *testing.T) {
	path := write(t, `# a comment
remote = "198.51.100.1"
mtu = 1400
ttl = "inherit"
verbose = true
address = [
  "2001:db8::2/64",  # the first
  "2001:db8::3/64",
]
route = "::/0"
`)
	got, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := func(line int, text string) Value { return Value{Text: text, Origin: Origin{path, line}} }
	want := Raw{
		Remote: {at(2, "198.51.100.1")}, MTU: {at(3, "1400")}, TTL: {at(4, "inherit")}, Verbose: {at(5, "true")},
		Address: {at(7, "2001:db8::2/64"), at(8, "2001:db8::3/64")}, Route: {at(10, "::/0")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ReadFile:\n got %v\nwant %v", got, want)
	}
	if _, err := Check(got); err != nil {
		t.Errorf("Check: %v", err)
	}
}

// TestReadFileMark: a byte order mark is none of the file, in the first line or in a message
// about it.
func TestReadFileMark(t *testing.T) {
	got, err := ReadFile(write(t, "\ufeffremote = \"198.51.100.1\"\r\nmtu = 1400\r\n"))
	if err != nil || len(got[Remote]) != 1 || got[Remote][0].Origin.Line != 1 || len(got[MTU]) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	path := write(t, "\ufeffremote = 198.51.100.1\n")
	_, err = ReadFile(path)
	wantError(t, err, path+`:1: remote = 198.51.100.1: text needs quotes: remote = "198.51.100.1"`, exit.Config)
}

func TestReadFileErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key", "remote = \"198.51.100.1\"\nadress = [\"2001:db8::2/64\"]\n",
			`FILE:2: unknown key "adress"; the nearest known key is "address"`},
		{"unknown key of nothing near", "colour-of-the-sky = 1\n",
			`FILE:1: unknown key "colour-of-the-sky"; the known keys are address, bind-interface, clamp-mss, keepalive, local, log-format, metrics, mtu, name, on-down, on-up, peer, queues, remote, route, socket, tos, ttl, verbose, wire`},
		{"a flag that is no setting", "\n\ndry-run = true\n",
			`FILE:3: unknown key "dry-run"; the known keys are address, bind-interface, clamp-mss, keepalive, local, log-format, metrics, mtu, name, on-down, on-up, peer, queues, remote, route, socket, tos, ttl, verbose, wire`},
		{"table", "remote = \"198.51.100.1\"\n[tos]\nx = 1\n", `FILE:2: [tos]: there are no tables in this file`},
		{"dotted key", "peer.a = 1\n", `FILE:1: unknown key "peer.a"; the nearest known key is "peer"`},
		{"not TOML", "remote = \"198.51.100.1\"\nmtu 1400\n", `FILE:2: toml: expected '=' after key`},
		{"twice", "mtu = 1400\nmtu = 1500\n", `FILE:2: toml: key mtu is already defined`},
		{"list for one value", "mtu = [1400]\n", `FILE:1: mtu: a list; it has one value`},
		{"inline table", "mtu = {a = 1}\n", `FILE:1: mtu: a text, a number, true or false belongs here`},
		{"list of lists", "address = [[\"2001:db8::2/64\"]]\n", `FILE:1: address: a list of texts belongs here`},
		{"date", "name = 2026-01-01\n", `FILE:1: name: a text, a number, true or false belongs here`},
		{"text without quotes", "mtu = 1400\nremote = 198.51.100.1\n",
			`FILE:2: remote = 198.51.100.1: text needs quotes: remote = "198.51.100.1"`},
		{"word without quotes", "local = auto # this end\r\n", `FILE:1: local = auto: text needs quotes: local = "auto"`},
		{"several words without quotes", "peer=198.51.100.1=::/0 more\n",
			`FILE:1: peer = 198.51.100.1=::/0 more: text needs quotes: peer = "198.51.100.1=::/0 more"`},
		{"quotes that do not end", "name = 'six0\n", `FILE:1: toml: literal strings cannot have new lines`},
		{"no value", "name =\n", `FILE:1: toml: unexpected character U+000A at start of value`},
		{"text without quotes in a list", "address = [2001:db8::2/64]\n", `FILE:1: address = [2001:db8::2/64]: text needs quotes: address = ["2001:db8::2/64"]`},
		{"texts without quotes in a list", "route=[2001:db8::/32 ,::/0]\n",
			`FILE:1: route = [2001:db8::/32 ,::/0]: text needs quotes: route = ["2001:db8::/32", "::/0"]`},
		{"text without quotes in lines", "route = [\n\"::/0\",\n2001:db8::/32\n]\n", `FILE:3: toml: expected ',' or ']' after array value`},
		{"key of connect", "server = \"192.0.2.1\"\n", `FILE:1: unknown key "server"; the nearest known key is "peer"`},
		{"too large", "#" + strings.Repeat("x", maxFile), `FILE: larger than 1048576 bytes`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.text)
			_, err := ReadFile(path)
			if err == nil {
				t.Fatal("no error")
			}
			if got := strings.ReplaceAll(err.Error(), path, "FILE"); got != tt.want {
				t.Errorf("error:\n got %s\nwant %s", got, tt.want)
			}
			if exit.Code(err) != exit.Config {
				t.Errorf("exit status %d, want %d", exit.Code(err), exit.Config)
			}
		})
	}
}

func TestReadFileMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.toml")
	_, err := ReadFile(path)
	if err == nil || err.Error() != "open "+path+": no such file or directory" || exit.Code(err) != exit.Config {
		t.Errorf("ReadFile: %v (%d)", err, exit.Code(err))
	}
}

func TestMergeFlagsWin(t *testing.T) {
	file := Raw{
		MTU:     {{Text: "1400", Origin: Origin{"f", 1}}},
		TTL:     {{Text: "32", Origin: Origin{"f", 2}}},
		Address: {{Text: "2001:db8::9/64", Origin: Origin{"f", 3}}},
		Peers:   {{Text: "198.51.100.9=::/0", Origin: Origin{"f", 4}}},
	}
	raw := flags("remote", "198.51.100.1", "mtu", "1300", "address", "2001:db8::2/64")
	raw.Merge(file)
	want := flags("remote", "198.51.100.1", "mtu", "1300", "address", "2001:db8::2/64")
	want[TTL] = file[TTL]
	if !reflect.DeepEqual(raw, want) {
		t.Errorf("Merge:\n got %v\nwant %v", raw, want)
	}
}

func TestReferenceIsTheDefaults(t *testing.T) {
	raw, err := ReadFile(write(t, Reference))
	if err != nil {
		t.Fatal(err)
	}
	raw.Set(Remote, "198.51.100.1")
	got, err := Check(raw)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Check(flags("remote", "198.51.100.1"))
	if err != nil {
		t.Fatal(err)
	}
	got.raw, want.raw = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the reference parses to\n     %+v\nwant %+v", got, want)
	}
}

var setting = regexp.MustCompile(`(?m)^#?([a-z-]+) = `)

// TestReferenceIsComplete also tries the examples that stand in comments.
func TestReferenceIsComplete(t *testing.T) {
	documented := make(map[Key]bool)
	for _, m := range setting.FindAllStringSubmatch(Reference, -1) {
		documented[Key(m[1])] = true
	}
	want := make(map[Key]bool)
	for _, key := range upOrder {
		want[key] = true
	}
	if !reflect.DeepEqual(documented, want) {
		t.Errorf("documented are %v, want %v", documented, want)
	}
	examples := regexp.MustCompile(`(?m)^#([a-z-]+ = )`).ReplaceAllString(Reference, "$1")
	raw, err := ReadFile(write(t, examples))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []Key{Remote, Peers} {
		raw := clone(raw)
		delete(raw, one)
		if _, err := Check(raw); err != nil {
			t.Errorf("the examples without %s: %v", one, err)
		}
	}
}

func clone(raw Raw) Raw {
	copied := make(Raw)
	copied.Merge(raw)
	return copied
}

func TestNearest(t *testing.T) {
	known := []string{"address", "local", "mtu", "remote", "route", "tos", "ttl"}
	tests := []struct{ word, want string }{
		{"adress", "address"}, {"addresses", "address"}, {"remot", "remote"}, {"routes", "route"},
		{"ttl", "ttl"}, {"tt", "ttl"}, {"loacl", "local"}, {"something-else", ""}, {"", ""},
	}
	for _, tt := range tests {
		if got := Nearest(tt.word, known); got != tt.want {
			t.Errorf("Nearest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0},
		{"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"mtu", "tmu", 2},
	}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
