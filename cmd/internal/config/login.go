package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"sixin4/cmd/internal/exit"
	"sixin4/tsp/sasl"
)

const (
	maxUser     = 253 // bytes
	maxPassword = 128 // bytes
	// maxPasswordFile bounds what is read of a password file: its first line fits
	// when it is not too long.
	maxPasswordFile = 4096
)

// PasswordVariable is the environment variable that may hold the password.
const PasswordVariable = "SIXIN4_PASSWORD"

// checkLogin checks who this is. env is the password of the environment.
func (c *Connect) checkLogin(env Secret) (err error) {
	if c.Auth, err = one(c.raw, Auth, AuthAny, parseAuth); err != nil {
		return err
	}
	user, given := c.raw.last(User)
	if given {
		if c.User, err = one(c.raw, User, "", parseUser); err != nil {
			return err
		}
	}
	switch {
	case c.Auth == AuthAnonymous:
		return c.checkAnonymous(user)
	case c.User == "":
		return c.nobody(env)
	}
	c.Password, err = c.password(user, env)
	return err
}

func parseAuth(s string) (string, error) {
	for _, known := range []string{AuthAny, sasl.Anonymous, sasl.Plain, sasl.DigestMD5, sasl.ScramSHA256} {
		if strings.ToLower(known) == s {
			return s, nil
		}
	}
	const right = "any, anonymous, plain, digest-md5 or scram-sha-256"
	if s == "passdss-3des-1" {
		return "", errors.New("not supported; digest-md5, or any for the best that the broker has")
	}
	return "", errors.New("no such authentication; " + right)
}

func parseUser(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("empty; the name of an account belongs here")
	case len(s) > maxUser:
		return "", fmt.Errorf("%d bytes long; at most %d", len(s), maxUser)
	case strings.ContainsAny(s, "\x00\r\n"):
		return "", errors.New("has a line end or a zero byte in it")
	}
	return s, nil
}

// checkAnonymous forgets the user of a file when the command line says anonymous,
// and that of an old file, where often both stand. Otherwise one of the two is a
// mistake.
func (c *Connect) checkAnonymous(user Value) error {
	auth, _ := c.raw.last(Auth)
	overruled := auth.Origin.File == "" && user.Origin.File != ""
	both := auth.old != nil && user.old != nil
	if c.User != "" && !overruled && !both {
		return invalid(Auth, auth, "together with a user: nobody logs in anonymously; give one or the other")
	}
	c.User = ""
	return nil
}

// nobody is what happens without a user: any is anonymous then, but not in old
// files, whose programs never chose that by themselves.
func (c *Connect) nobody(env Secret) error {
	auth, _ := c.raw.last(Auth)
	file, isFile := c.raw.last(PasswordFile)
	old, isOld := c.raw.last(oldPassword)
	switch {
	case isFile:
		return invalid(PasswordFile, file, "there is a password, but no user; give --user NAME")
	case isOld:
		return invalid(oldPassword, old, "there is a password, but no user; set userid")
	case auth.old != nil:
		return invalid(Auth, auth, "needs userid and passwd; without an account set auth_method=anonymous")
	case c.Auth != AuthAny:
		return invalid(Auth, auth, "needs --user NAME and a password; without an account give --auth anonymous")
	case !env.IsZero():
		return exit.With(exit.Usage, errors.New(PasswordVariable+": there is a password, but no user; give --user NAME"))
	}
	c.Auth = AuthAnonymous
	return nil
}

// password finds the password of user.
func (c *Connect) password(user Value, env Secret) (Secret, error) {
	file, isFile := c.raw.last(PasswordFile)
	old, isOld := c.raw.last(oldPassword)
	switch {
	case isFile && !env.IsZero():
		return Secret{}, invalid(PasswordFile, file, "and "+PasswordVariable+" is set too; give the password in one way")
	case isFile:
		return c.passwordFrom(file)
	case !env.IsZero():
		err := checkPassword(env.Reveal())
		if err != nil {
			err = exit.With(exit.Usage, fmt.Errorf("%s: %w", PasswordVariable, err))
		}
		return env, err
	case isOld:
		return old.old.secret, nil
	case user.old != nil:
		return Secret{}, invalid(User, user, "there is no password; set passwd, or "+PasswordVariable)
	}
	return Secret{}, invalid(User, user, "there is no password; give --password-file FILE, or set "+PasswordVariable)
}

// passwordFrom reads the password file that v names, whose path counts from the
// current directory.
func (c *Connect) passwordFrom(v Value) (Secret, error) {
	text, mode, err := readPassword(v.Text)
	if err != nil {
		return Secret{}, badPasswordFile(v, err)
	}
	if isOpen(mode) {
		c.Warnings = append(c.Warnings, openFile(v.Text))
	}
	return NewSecret(text), nil
}

// badPasswordFile blames the file; a missing permission has an exit status of its
// own.
func badPasswordFile(v Value, err error) error {
	blame := invalid(PasswordFile, v, err.Error())
	if errors.Is(err, fs.ErrPermission) {
		return exit.With(exit.Permission, blame)
	}
	return blame
}

// isOpen reports whether everybody may read or change a file. A group that may is
// somebody's decision.
func isOpen(mode fs.FileMode) bool { return mode.IsRegular() && mode.Perm()&0o006 != 0 }

func openFile(path string) string {
	return fmt.Sprintf("%s: holds a password, and everybody on this host can read or change it; chmod o-rw %s", shown(path), shown(path))
}

// readPassword returns the first line of a file. Its errors do not repeat the path
// and never show what was read.
func readPassword(path string) (text string, mode fs.FileMode, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, withoutPath(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", 0, withoutPath(err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPasswordFile))
	if err != nil {
		return "", 0, withoutPath(err)
	}
	if len(data) == 0 {
		return "", 0, errors.New("the file is empty; its first line is the password")
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	text = string(bytes.TrimSuffix(line, []byte("\r")))
	return text, info.Mode(), checkPassword(text)
}

// withoutPath takes off a path that the message around it has already.
func withoutPath(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// checkPassword says what is wrong with a password without showing it.
func checkPassword(s string) error {
	switch {
	case s == "":
		return errors.New("the password is empty")
	case len(s) > maxPassword:
		return fmt.Errorf("the password has %d bytes; at most %d", len(s), maxPassword)
	case strings.Contains(s, "\x00"):
		return errors.New("the password has a zero byte in it")
	case strings.Contains(s, "\n"):
		return errors.New("the password has a line feed in it")
	case strings.Contains(s, "\r"):
		return errors.New("the password has a carriage return in it")
	}
	return nil
}
