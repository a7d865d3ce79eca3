package hook

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxLine   = 4 << 10
	maxOutput = 1 << 20
	cutLine   = "(more than 1 MiB of output: the rest is not shown)"
)

// copyOutput hands what comes out of r to Output until its end, its read deadline or
// its Close. What is over the limit is read all the same: the script must not block.
func (s Script) copyOutput(r io.Reader) {
	emit := s.Output
	if emit == nil {
		emit = func(line string) { s.Logger.Info("script output", "script", s.name(), "line", line) }
	}
	lines := &splitter{emit: emit, left: maxOutput}
	_, _ = io.Copy(lines, r) // its end is an error too when somebody else holds the pipe
	lines.flush()
}

// splitter makes lines of what is written to it. A line over the limit becomes several.
type splitter struct {
	emit func(line string)
	line []byte // what has come of the present one, less than maxLine
	left int    // bytes that may still come
	cut  bool   // more came, and this has been said
}

// Write never fails.
func (s *splitter) Write(b []byte) (int, error) {
	n := len(b)
	b = b[:min(n, s.left)]
	s.left -= len(b)
	over := len(b) < n
	for len(b) > 0 {
		b = s.take(b)
	}
	if over && !s.cut {
		s.flush()
		s.emit(cutLine)
		s.cut = true
	}
	return n, nil
}

// take takes up to one line from b and returns the rest.
func (s *splitter) take(b []byte) []byte {
	part := b[:min(len(b), maxLine-len(s.line))]
	if end := bytes.IndexByte(part, '\n'); end >= 0 {
		s.line = append(s.line, part[:end]...)
		s.put(len(s.line))
		return b[end+1:]
	}
	s.line = append(s.line, part...)
	if len(s.line) == maxLine {
		s.put(wholeRunes(s.line))
	}
	return b[len(part):]
}

// put emits n bytes of the line and keeps the others.
func (s *splitter) put(n int) {
	s.emit(escape(strings.TrimSuffix(string(s.line[:n]), "\r")))
	s.line = append(s.line[:0], s.line[n:]...)
}

// flush emits a line that has no end.
func (s *splitter) flush() {
	if len(s.line) > 0 {
		s.put(len(s.line))
	}
}

// wholeRunes is the length of b without a character at its end of which more may come.
func wholeRunes(b []byte) int {
	for n := 1; n < utf8.UTFMax && n < len(b); n++ {
		if at := len(b) - n; utf8.RuneStart(b[at]) {
			if utf8.FullRune(b[at:]) {
				break
			}
			return at
		}
	}
	return len(b)
}

// escape makes a line safe to print: a tab is a blank, everything else that is not a
// visible character is written as Go writes it, \x1b for instance.
func escape(line string) string {
	var safe strings.Builder
	for at, r := range line {
		switch {
		case r == '\t':
			safe.WriteByte(' ')
		case r == utf8.RuneError && !strings.HasPrefix(line[at:], "\uFFFD"): // not UTF-8
			safe.WriteString(`\x` + strconv.FormatUint(uint64(line[at])|0x100, 16)[1:])
		case unicode.IsPrint(r):
			safe.WriteRune(r)
		default:
			safe.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return safe.String()
}
