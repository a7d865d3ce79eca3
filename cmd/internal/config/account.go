package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"sixin4/cmd/internal/exit"
	"sixin4/tsp/broker/pool"
	"sixin4/tsp/sasl"
)

const (
	// minPassword is how many characters a new password has at least. Guesses are
	// limited to some a minute, so this need not stand a stolen database.
	minPassword = 8
	maxTunnels  = 1000
)

// Account is what a command says about a user of a broker.
type Account struct {
	PrefixLen  int  // 48 to 64; 0 for no prefix
	MaxTunnels int  // 1 to 1000
	Legacy     bool // may log in by DIGEST-MD5 and PLAIN
	Operator   bool // may see and change what is others', in the web pages
}

// CheckAccount checks those values of raw that are in Account. The exit status of its
// errors is 64.
func CheckAccount(raw Raw) (a Account, err error) {
	if a.PrefixLen, err = one(raw, PrefixLength, "0", parsePrefixLen); err != nil {
		return Account{}, err
	}
	if a.MaxTunnels, err = one(raw, MaxTunnels, "1", parseMaxTunnels); err != nil {
		return Account{}, err
	}
	if a.Legacy, err = one(raw, LegacyLogin, "false", parseBool); err != nil {
		return Account{}, err
	}
	a.Operator, err = one(raw, Operator, "false", parseBool)
	return a, err
}

func parsePrefixLen(s string) (int, error) {
	const right = "48 to 64, or 0 for no prefix"
	n, err := parseNumber(s, 0, pool.MaxPrefix, right)
	if err == nil && n != 0 && n < pool.MinPrefix {
		return 0, errors.New("out of range; " + right)
	}
	return n, err
}

func parseMaxTunnels(s string) (int, error) {
	return parseNumber(s, 1, maxTunnels, fmt.Sprintf("1 to %d", maxTunnels))
}

// CheckAccountName says what is wrong with the name of a new user: it must come from
// every client just as it is stored.
func CheckAccountName(s string) error {
	if _, err := parseUser(s); err != nil {
		return err
	}
	switch {
	case !utf8.ValidString(s):
		return errors.New("not UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("has a control character in it")
	case strings.TrimSpace(s) != s:
		return errors.New("begins or ends with a space")
	case strings.Contains(s, ":"):
		return errors.New("has a colon in it, which ends a name where a password follows it")
	}
	return checkSpelling(s)
}

// checkSpelling: SCRAM-SHA-256 clients send a name in one of several spellings
// (RFC 4013, from memory), under which it would not be found.
func checkSpelling(s string) error {
	client, err := sasl.NewClient(sasl.ScramSHA256, sasl.Credentials{User: s, Password: "password"})
	if err != nil {
		return errors.New("has a character that clients cannot send")
	}
	first, _, err := client.Next(nil)
	if err != nil {
		return errors.New("has a character that clients cannot send")
	}
	_, rest, _ := strings.Cut(string(first), "n=")
	sent, _, _ := strings.Cut(rest, ",")
	sent = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(sent)
	if sent != s {
		return fmt.Errorf("clients send it as %s; give it in that spelling", sent)
	}
	return nil
}

// NewPassword finds the password for a user: in the file that raw names, or in env,
// what the variable SIXIN4_PASSWORD holds. warning is what is no error and should
// still be known, empty for nothing. The exit status of errors is 64, or 77 when the
// file may not be read.
func NewPassword(raw Raw, user string, env Secret) (s Secret, warning string, err error) {
	file, isFile := raw.last(PasswordFile)
	switch {
	case isFile && !env.IsZero():
		return Secret{}, "", invalid(PasswordFile, file, "and "+PasswordVariable+" is set too; give the password in one way")
	case isFile:
		return passwordOf(user, file)
	case env.IsZero():
		return Secret{}, "", exit.With(exit.Usage, errors.New("no password: give --password-file FILE, or set "+PasswordVariable))
	}
	if err := checkNewPassword(user, env.Reveal()); err != nil {
		return Secret{}, "", exit.With(exit.Usage, fmt.Errorf("%s: %w", PasswordVariable, err))
	}
	return env, "", nil
}

// passwordOf reads the password file that v names.
func passwordOf(user string, v Value) (s Secret, warning string, err error) {
	text, mode, err := readPassword(v.Text)
	if err == nil {
		err = checkNewPassword(user, text)
	}
	if err != nil {
		return Secret{}, "", badPasswordFile(v, err)
	}
	if isOpen(mode) {
		warning = openFile(v.Text)
	}
	return NewSecret(text), warning, nil
}

// CheckNewPassword says what is wrong with a password that a user wants, without showing
// it.
func CheckNewPassword(user, password string) error { return checkNewPassword(user, password) }

// checkNewPassword says what is wrong with a password without showing it.
func checkNewPassword(user, s string) error {
	if err := checkPassword(s); err != nil {
		return err
	}
	n := utf8.RuneCountInString(s)
	switch {
	case !utf8.ValidString(s):
		return errors.New("the password is not UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("the password has a control character in it")
	case n < minPassword:
		return fmt.Errorf("the password has %d characters; at least %d", n, minPassword)
	case strings.EqualFold(s, user):
		return errors.New("the password is the name of the user")
	}
	return nil
}
