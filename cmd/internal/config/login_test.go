package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sixin4/cmd/internal/exit"
)

// passwordFile makes a password file with the given content that only its owner
// may read.
func passwordFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLogin is about who the client is, from the flags, the environment and files.
func TestLogin(t *testing.T) {
	file := passwordFile(t, "sesame\n")
	toml := func(key Key, text string) Raw {
		return Raw{key: {{Text: text, Origin: Origin{"home.toml", 1}}}}
	}
	old := Raw{oldPassword: {{Origin: Origin{"tspc.conf", 1}, old: &oldValue{"passwd", "", NewSecret("old")}}}}
	for _, tt := range []struct {
		name         string
		flags, file  Raw
		env          string
		auth         string
		user, secret string
	}{
		{"nobody", Raw{}, nil, "", "anonymous", "", ""},
		{"anonymous in spite of the environment", flags("auth", "anonymous"), nil, "env", "anonymous", "", ""},
		{"user and file", flags("user", "alice", "password-file", file), nil, "", "any", "alice", "sesame"},
		{"user and environment", flags("user", "alice", "auth", "plain"), nil, "env", "plain", "alice", "env"},
		{"user in the file of the settings", flags("password-file", file), toml(User, "bob"), "", "any", "bob", "sesame"},
		{"anonymous for once", flags("auth", "anonymous"), toml(User, "bob"), "", "anonymous", "", ""},
		{"environment over an old file", flags("user", "alice"), old, "env", "any", "alice", "env"},
		{"password file over an old file", flags("user", "alice", "password-file", file), old, "", "any", "alice", "sesame"},
		{"old file", flags("user", "alice"), old, "", "any", "alice", "old"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := clone(tt.flags)
			raw.Set(Servers, anyServer)
			raw.Merge(tt.file)
			c, err := CheckConnect(raw, NewSecret(tt.env))
			if err != nil {
				t.Fatal(err)
			}
			if c.Auth != tt.auth || c.User != tt.user || c.Password.Reveal() != tt.secret {
				t.Errorf("got %s, %q, %q; want %s, %q, %q", c.Auth, c.User, c.Password.Reveal(), tt.auth, tt.user, tt.secret)
			}
		})
	}
}

func TestBadLogin(t *testing.T) {
	file := passwordFile(t, "sesame\n")
	for _, tt := range []struct {
		name string
		raw  Raw
		env  string
		want string
	}{
		{"user without password", flags("user", "alice"), "",
			"--user alice: there is no password; give --password-file FILE, or set SIXIN4_PASSWORD"},
		{"file without user", flags("password-file", file), "",
			"--password-file " + file + ": there is a password, but no user; give --user NAME"},
		{"environment without user", Raw{}, "sesame", "SIXIN4_PASSWORD: there is a password, but no user; give --user NAME"},
		{"plain without user", flags("auth", "plain"), "sesame",
			"--auth plain: needs --user NAME and a password; without an account give --auth anonymous"},
		{"both", flags("user", "alice", "password-file", file), "sesame",
			"--password-file " + file + ": and SIXIN4_PASSWORD is set too; give the password in one way"},
		{"anonymous with a name", flags("auth", "anonymous", "user", "alice"), "",
			"--auth anonymous: together with a user: nobody logs in anonymously; give one or the other"},
		{"line end in the name", flags("user", "alice\r\nAUTHENTICATE"), "", `--user "alice\r\nAUTHENTICATE": has a line end or a zero byte in it`},
		{"zero byte in the name", flags("user", "a\x00b"), "", `--user "a\x00b": has a line end or a zero byte in it`},
		{"too long", flags("user", "alice"), strings.Repeat("x", 129), "SIXIN4_PASSWORD: the password has 129 bytes; at most 128"},
		{"line feed", flags("user", "alice"), "a\nb", "SIXIN4_PASSWORD: the password has a line feed in it"},
		{"carriage return", flags("user", "alice"), "a\rb", "SIXIN4_PASSWORD: the password has a carriage return in it"},
		{"zero byte", flags("user", "alice"), "a\x00b", "SIXIN4_PASSWORD: the password has a zero byte in it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.raw.Set(Servers, anyServer)
			_, err := CheckConnect(tt.raw, NewSecret(tt.env))
			wantError(t, err, tt.want, exit.Usage)
		})
	}
}

// TestAnonymousFromFile has the name on the command line and anonymous in a file:
// the name must not be lost without a word.
func TestAnonymousFromFile(t *testing.T) {
	raw := flags("server", anyServer, "user", "alice")
	raw[Auth] = []Value{{Text: "anonymous", Origin: Origin{"home.toml", 2}}}
	checkConnect(t, raw, `home.toml:2: auth = "anonymous": together with a user: nobody logs in anonymously; give one or the other`, exit.Config)
}

func TestPasswordFile(t *testing.T) {
	for _, tt := range []struct{ name, content, want, wantCause string }{
		{"one line", "sesame\n", "sesame", ""},
		{"no line end", "sesame", "sesame", ""},
		{"CR LF", "sesame\r\n", "sesame", ""},
		{"CR at the end of the file", "sesame\r", "sesame", ""},
		{"blanks belong to it", " open sesame \n", " open sesame ", ""},
		{"first line", "sesame\nsomething else\n", "sesame", ""},
		{"longest", strings.Repeat("x", 128) + "\n", strings.Repeat("x", 128), ""},
		{"empty file", "", "", "the file is empty; its first line is the password"},
		{"empty line", "\nsesame\n", "", "the password is empty"},
		{"too long", strings.Repeat("x", 129), "", "the password has 129 bytes; at most 128"},
		{"two CR", "sesame\r\r\n", "", "the password has a carriage return in it"},
		{"CR within", "open\rsesame\n", "", "the password has a carriage return in it"},
		{"zero byte", "open\x00sesame\n", "", "the password has a zero byte in it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := passwordFile(t, tt.content)
			c, err := CheckConnect(flags("server", anyServer, "user", "alice", "password-file", path), Secret{})
			if tt.wantCause != "" {
				wantError(t, err, "--password-file "+path+": "+tt.wantCause, exit.Usage)
				return
			}
			if err != nil || c.Password.Reveal() != tt.want || len(c.Warnings) > 0 {
				t.Errorf("got %q, %v, warnings %q; want %q", c.Password.Reveal(), err, c.Warnings, tt.want)
			}
		})
	}
}

func TestPasswordFileAccess(t *testing.T) {
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: false, 0o644: true, 0o602: true} {
		path := passwordFile(t, "sesame\n")
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		c, err := CheckConnect(flags("server", anyServer, "user", "alice", "password-file", path), Secret{})
		if err != nil {
			t.Fatal(err)
		}
		want := path + ": holds a password, and everybody on this host can read or change it; chmod o-rw " + path
		if warned != (len(c.Warnings) == 1 && c.Warnings[0] == want) || !warned && len(c.Warnings) > 0 {
			t.Errorf("mode %o: warnings %q", mode, c.Warnings)
		}
	}
}

func TestPasswordFileMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	checkConnect(t, flags("server", anyServer, "user", "alice", "password-file", path),
		"--password-file "+path+": no such file or directory", exit.Usage)
	raw := flags("server", anyServer, "user", "alice")
	raw[PasswordFile] = []Value{{Text: t.TempDir(), Origin: Origin{"home.toml", 4}}}
	_, err := CheckConnect(raw, Secret{})
	if err == nil || !strings.HasSuffix(err.Error(), ": is a directory") || exit.Code(err) != exit.Config {
		t.Errorf("a directory: %v (%d)", err, exit.Code(err))
	}
}

// TestPasswordFileForbidden makes the error itself, as root may read every file.
func TestPasswordFileForbidden(t *testing.T) {
	err := withoutPath(&fs.PathError{Op: "open", Path: "/p", Err: syscall.EACCES})
	wantError(t, badPasswordFile(Value{Text: "/p"}, err), "--password-file /p: permission denied", exit.Permission)
}
