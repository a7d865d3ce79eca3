package config

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
)

// TestBrief: of a text that is too long its beginning is shown, by characters.
func TestBrief(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      `""`,
		strings.Repeat("ü", mostShown):          `"` + strings.Repeat("ü", mostShown) + `"`,
		strings.Repeat("ü", mostShown) + "x":    `"` + strings.Repeat("ü", mostShown) + `"...`,
		strings.Repeat("\xff", mostShown) + "x": `"` + strings.Repeat(`\xff`, mostShown) + `"...`,
	} {
		if got := brief(text, strconv.Quote); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestLongValues: no message is much longer than what is wrong, however much is written.
func TestLongValues(t *testing.T) {
	const most = 2500 // all known keys, or a value twice with every character escaped
	checks := map[string]struct {
		keys  []Key
		check func(Raw) error
	}{
		"up":      {upOrder, func(r Raw) error { _, err := Check(r); return err }},
		"connect": {connectOrder, func(r Raw) error { _, err := CheckConnect(r, Secret{}); return err }},
		"proxy":   {proxyOrder, func(r Raw) error { _, err := CheckProxy(r, Secret{}); return err }},
		"tspd":    {brokerOrder, func(r Raw) error { _, err := CheckBroker(r); return err }},
	}
	for name, c := range checks {
		for _, key := range c.keys {
			for i, text := range longTexts() {
				raw := flags("server", anyServer, "prefix", anyPool, "web", "127.0.0.1", "user", "alice", "proxy-user", "bob")
				switch {
				case name == "up" && key != Peers:
					raw = flags("remote", "198.51.100.1")
				case name == "up", name == "tspd":
					delete(raw, User)
				}
				raw[key] = []Value{{Text: text, Origin: []Origin{{}, {File: "home.toml", Line: 7}}[i%2]}}
				if err := c.check(raw); err != nil && len(err.Error()) > most {
					t.Errorf("%s %s: %d characters: %.300s", name, key, len(err.Error()), err)
				}
			}
		}
	}
}

// longTexts are long in many ways.
func longTexts() (texts []string) {
	const n = 3000
	for _, head := range []string{
		"", "/", "a.example.net:", "[2001:db8::1]:", "2001:db8::1,", "192.0.2.1:", "198.51.100.1=", "six0=", "ff02::1%", "[ff02::1%",
		"25/", "25,", "6rd=2001:db8::/32,", "6rd=", "isatap=", "6to4=", "http://", "postgres://", "[::]:80=", "a b ", "'",
	} {
		for _, more := range []string{"[", "a", "1", "1,", "a ", "\x00", "/", ":", "a="} {
			texts = append(texts, head+strings.Repeat(more, n))
		}
	}
	return texts
}

// TestLongLines is the same for what is read of a file before any value is looked at.
func TestLongLines(t *testing.T) {
	const n = 3000
	for _, more := range []string{"[", "a", "1", "a.", " ", "\"", "ü", "1, "} {
		long := strings.Repeat(more, n)
		for _, text := range []string{
			long, long + " = 1\n", "[" + long + "]\n", "[a" + long + "a]\n", "a" + long + "a = 1\n", "a" + long + "a = x\n", "name = " + long + "\n",
			"name = [" + long + "]\n", "\"" + long + "\" = 1\n", "[\"" + long + "\"]\n", "name = { " + long + " = 1 }\n",
			"a" + long + "a = 1\na" + long + "a = 1\n",
		} {
			path := write(t, text)
			_, err := ReadFile(path)
			if text == long && err == nil {
				continue // nothing but blanks
			}
			if err == nil || exit.Code(err) != exit.Config || len(err.Error()) > 2500 {
				t.Errorf("%.60q: %.300v", text, err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}
