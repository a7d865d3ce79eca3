package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxVerbose is the highest level of -v.
const maxVerbose = 3

// options are the command line.
type options struct {
	verbose    int           // how many -v
	file       string        // -f; empty for the usual ones
	iface      string        // -i
	udpIface   string        // -u
	source     string        // -s
	retry      time.Duration // -r; 0 when it was not given
	foreground bool          // -n
	bail       bool          // -b
	accept     bool          // -y
	help       bool          // -h
}

// unknownOption is the error of an option that there is not.
type unknownOption string

func (u unknownOption) Error() string { return fmt.Sprintf("unknown option %q", string(u)) }

// parseOptions takes the command line apart as getopt does: letters may be joined, and
// what follows a letter that has a value is that value, or else the next argument.
func parseOptions(args []string) (o options, err error) {
	for len(args) > 0 && err == nil {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--help":
			o.help = true
		case strings.HasPrefix(arg, "--") && arg != "--":
			return o, unknownOption(arg)
		case len(arg) > 1 && arg[0] == '-' && arg != "--":
			args, err = o.letters(arg[1:], args)
		default:
			return o, wrong("unexpected argument %q: every value belongs to an option (tspc -h shows examples)", arg)
		}
	}
	return o, err
}

// letters takes the letters of one argument, and returns what is left of the others.
func (o *options) letters(word string, rest []string) ([]string, error) {
	for word != "" {
		letter, size := utf8.DecodeRuneInString(word)
		word = word[size:]
		if o.flag(letter) {
			continue
		}
		if !strings.ContainsRune("firus", letter) {
			return nil, unknownOption("-" + string(letter))
		}
		if word == "" {
			if len(rest) == 0 {
				return nil, wrong("-%c: a value is missing (tspc -h shows examples)", letter)
			}
			word, rest = rest[0], rest[1:]
		}
		return rest, o.value(letter, word)
	}
	return rest, nil
}

// flag takes a letter without a value; false when it is none.
func (o *options) flag(letter rune) bool {
	switch letter {
	case 'v':
		o.verbose++
	case 'n':
		o.foreground = true
	case 'b':
		o.bail = true
	case 'y':
		o.accept = true
	case 'h', '?':
		o.help = true
	default:
		return false
	}
	return true
}

// value takes a letter that has one.
func (o *options) value(letter rune, text string) error {
	if text == "" {
		return wrong("-%c: an empty value (tspc -h shows examples)", letter)
	}
	switch letter {
	case 'f':
		o.file = text
	case 'i':
		o.iface = text
	case 'u':
		o.udpIface = text
	case 's':
		o.source = text
	case 'r':
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 3600 {
			return wrong("-r %q: 0 to 3600 seconds belong here", text)
		}
		o.retry = max(time.Second, time.Duration(n)*time.Second) // no broker is asked without a pause
	}
	return nil
}

// wrong is the error of a command line that cannot be.
func wrong(format string, args ...any) error {
	return failure{statusConfiguration, fmt.Errorf(format, args...)}
}
