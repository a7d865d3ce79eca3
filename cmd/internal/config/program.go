package config

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"unicode"
)

// checkPrograms checks what runs when the far end comes and goes.
func checkPrograms(c *Config) (err error) {
	for _, p := range []struct {
		key Key
		to  *[]string
	}{{OnUp, &c.OnUp}, {OnDown, &c.OnDown}} {
		if !c.raw.Has(p.key) {
			continue
		}
		if *p.to, err = one(c.raw, p.key, "", parseProgram); err != nil {
			return err
		}
	}
	return nil
}

// parseProgram parses a program and its arguments, which no shell will see, and finds
// the program.
func parseProgram(s string) ([]string, error) {
	words, err := splitWords(s)
	switch {
	case err != nil:
		return nil, err
	case len(words) == 0 || words[0] == "":
		return nil, errors.New("empty; a program and its arguments belong here, like /usr/local/bin/tell-me up")
	case strings.Contains(s, "\x00"):
		return nil, errors.New("has a zero byte in it")
	case strings.Contains(words[0], "/") && !strings.HasPrefix(words[0], "/"):
		return nil, fmt.Errorf("%s is a relative path; it has to begin with a slash", brief(words[0], asIs))
	}
	path, err := exec.LookPath(words[0])
	if err != nil {
		if of := new(exec.Error); len(words[0]) > mostShown && errors.As(err, &of) {
			err = withoutPath(of.Err)
		}
		return nil, fmt.Errorf("no such program, or not one that may be run: %w", err)
	}
	words[0] = path
	return words, nil
}

// forShells are characters that do something in a shell. Whoever writes one without
// quotes expects a shell.
const forShells = "|&;<>()$`*?~#"

// splitWords splits a command line at its blanks. Single and double quotes hold a word
// together, and a backslash takes the next character as it is, but not within single
// quotes.
func splitWords(s string) (words []string, err error) {
	var w splitter
	for _, r := range s {
		if err := w.take(r); err != nil {
			return nil, err
		}
	}
	switch {
	case w.quote != 0:
		return nil, fmt.Errorf("the quote %c has no end", w.quote)
	case w.escaped:
		return nil, errors.New("ends with a backslash")
	}
	w.end()
	return w.words, nil
}

// splitter splits a command line.
type splitter struct {
	words   []string
	word    strings.Builder
	began   bool // word is one, even when it is empty
	quote   rune // that is open; 0: none
	escaped bool
}

func (w *splitter) take(r rune) error {
	switch {
	case w.escaped:
		w.escaped = false
		w.add(r)
	case r == '\\' && w.quote != '\'':
		w.escaped = true
	case r == w.quote:
		w.quote = 0
	case w.quote == '\'' || w.quote == '"' && r != '$' && r != '`':
		w.add(r)
	case w.quote == 0 && (r == '\'' || r == '"'):
		w.quote, w.began = r, true
	case strings.ContainsRune(forShells, r):
		return fmt.Errorf("no shell runs it, so that %c does nothing; write \\%c, or let one run it: sh -c '...'", r, r)
	case unicode.IsSpace(r):
		w.end()
	default:
		w.add(r)
	}
	return nil
}

func (w *splitter) add(r rune) {
	w.began = true
	w.word.WriteRune(r)
}

func (w *splitter) end() {
	if w.began {
		w.words = append(w.words, w.word.String())
	}
	w.word.Reset()
	w.began = false
}
