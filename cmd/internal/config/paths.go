package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// checkPaths checks the files that outlive a run, which need not exist, and what
// runs when the tunnel comes and goes.
func (c *Connect) checkPaths() error {
	for _, p := range []struct {
		key   Key
		to    *string
		parse func(string) (string, error)
	}{
		{BrokerList, &c.BrokerList, parsePath},
		{LastServer, &c.LastServer, parsePath},
		{Script, &c.Script, parseScript},
		{HomeDir, &c.HomeDir, parseAbsolute},
		{OnUp, &c.OnUp, parseCommand},
		{OnDown, &c.OnDown, parseCommand},
	} {
		if _, given := c.raw.last(p.key); !given {
			continue
		}
		var err error
		if *p.to, err = one(c.raw, p.key, "", p.parse); err != nil {
			return err
		}
	}
	if c.AlwaysSame && c.LastServer == "" {
		return c.Invalid(AlwaysSame, "which broker that is has to be kept in a file; give --last-server FILE")
	}
	if c.HomeDir == "" && c.Script != "" {
		c.HomeDir = filepath.Dir(c.Script)
	}
	return nil
}

func parsePath(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("empty; the path of a file belongs here")
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", errors.New("has a control character in it")
	}
	return s, nil
}

func parseAbsolute(s string) (string, error) {
	if _, err := parsePath(s); err != nil {
		return "", err
	}
	if !filepath.IsAbs(s) {
		return "", errors.New("a relative path; it has to begin with a slash")
	}
	return filepath.Clean(s), nil
}

func parseScript(s string) (string, error) {
	path, err := parseAbsolute(s)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", withoutPath(err)
	case !info.Mode().IsRegular():
		return "", errors.New("not a regular file; a script for /bin/sh belongs here")
	}
	return path, nil
}

func parseCommand(s string) (string, error) {
	switch {
	case strings.TrimSpace(s) == "":
		return "", errors.New("empty; a command for /bin/sh belongs here")
	case strings.Contains(s, "\x00"):
		return "", errors.New("has a zero byte in it")
	}
	return s, nil
}
