package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// FuzzLegacy reads anything as an old file. Whatever it is, the answer is a
// configuration within its bounds or one line of text, and the password, which
// stands in the last line, is in neither.
func FuzzLegacy(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(confs, "*.conf"))
	if err != nil || len(files) < 6 {
		f.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range []string{"", "=", "server", "server=[", "server=:1", "\ufeff", "\xff", "\r", "#=#", "passwd=\x00", "dns_server=::", "tsp_dir=\t/"} {
		f.Add([]byte(text))
	}
	const password = "correct-horse-battery-staple"
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte(password[:8])) {
			t.Skip("names the password itself")
		}
		data = append(bytes.Clone(data), "\npasswd = "+password+" \r\n"...)
		file, err := parseOld("tspc.conf", "/nonexistent", data)
		isLine(t, err, password)
		for _, w := range file.Warnings {
			isLine(t, errorText(w), password)
		}
		if err != nil {
			return
		}
		if len(file.Warnings) > maxDoubts+3 {
			t.Errorf("%d warnings", len(file.Warnings))
		}
		c, err := CheckConnect(file.Raw, Secret{})
		isLine(t, err, password)
		if err == nil {
			isSound(t, c, password)
		}
	})
}

// isLine checks an error, or nil: one line that can be printed, about the file,
// without the password.
func isLine(t *testing.T, err error, password string) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	if !strings.HasPrefix(text, "tspc.conf:") || strings.Contains(text, password) ||
		strings.ContainsFunc(text, unicode.IsControl) {
		t.Errorf("message %q", text)
	}
}

// isSound checks what everybody behind CheckConnect relies on.
func isSound(t *testing.T, c Connect, password string) {
	t.Helper()
	if anonymous := c.Auth == AuthAnonymous; anonymous != (c.User == "") || anonymous != c.Password.IsZero() {
		t.Errorf("auth %s, user %q, password %v", c.Auth, c.User, !c.Password.IsZero())
	}
	if c.User != "" && c.Password.Reveal() != password {
		t.Errorf("password %q", c.Password.Reveal())
	}
	if len(c.Servers) != 1 || c.Servers[0].Port == 0 || c.Servers[0].Host == "" {
		t.Errorf("servers %v", c.Servers)
	}
	if c.RetryDelay < 1 || c.RetryDelay > c.RetryMax || c.RetryMax > maxRetry || c.Keepalive < 0 {
		t.Errorf("retry %v to %v, keepalive %v", c.RetryDelay, c.RetryMax, c.Keepalive)
	}
	if c.Router != (c.LAN != "") || c.Script != "" || !filepath.IsAbs(c.HomeDir) {
		t.Errorf("router %v, LAN %q, script %q, home %q", c.Router, c.LAN, c.Script, c.HomeDir)
	}
}
