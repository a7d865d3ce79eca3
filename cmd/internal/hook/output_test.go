package hook

import (
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func TestLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, tt := range []struct {
		name, in string
		want     []string
	}{
		{"nothing", "", nil},
		{"lines", "a\nb\n", []string{"a", "b"}},
		{"empty lines", "\n\na\n", []string{"", "", "a"}},
		{"no line end", "a\nb", []string{"a", "b"}},
		{"CR LF", "a\r\nb\r", []string{"a", "b"}},
		{"escape sequence", "\x1b[2J\x07a\x00b\x7f", []string{`\x1b[2J\aa\x00b\x7f`}},
		{"tab", "a\tb", []string{"a b"}},
		{"CR within", "good\rbad", []string{`good\rbad`}},
		{"C1 control", "a\u009b2J", []string{`a\u009b2J`}},
		{"right to left", "a\u202eb", []string{`a\u202eb`}},
		{"not UTF-8", "a\xff\x80b", []string{`a\xff\x80b`}},
		{"low byte alone", "\xc3", []string{`\xc3`}},
		{"replacement character", "\uFFFD", []string{"\uFFFD"}},
		{"letters", "größe 大", []string{"größe 大"}},
		{"exactly the limit", long + "\nb", []string{long, "", "b"}},
		{"over the limit", long + "yz\nb\n", []string{long, "yz", "b"}},
		{"character across the limit", long[1:] + "ü\n", []string{long[1:], "ü"}},
		{"large character across the limit", long[3:] + "\U0001F600\n", []string{long[3:], "\U0001F600"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for kind, r := range map[string]io.Reader{
				"at once":        strings.NewReader(tt.in),
				"byte by byte":   iotest.OneByteReader(strings.NewReader(tt.in)),
				"ends with time": io.MultiReader(strings.NewReader(tt.in), iotest.ErrReader(os.ErrDeadlineExceeded)),
			} {
				var got []string
				Script{Output: func(l string) { got = append(got, l) }}.copyOutput(r)
				if !slices.Equal(got, tt.want) {
					t.Errorf("%s: %.80q, want %.80q", kind, got, tt.want)
				}
			}
		})
	}
}

func TestOutputLimit(t *testing.T) {
	line := strings.Repeat("x", 1023) + "\n"
	for _, tt := range []struct {
		name, more string
		want       int // lines
		last       string
	}{
		{"exactly", "", 1024, line[:1023]},
		{"one byte more", "y", 1025, cutLine},
		{"much more", line + line, 1025, cutLine},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			s := Script{Output: func(l string) { got = append(got, l) }}
			s.copyOutput(iotest.HalfReader(strings.NewReader(strings.Repeat(line, 1024) + tt.more)))
			if len(got) != tt.want || got[len(got)-1] != tt.last {
				t.Errorf("%d lines, the last %q; want %d, %q", len(got), got[len(got)-1], tt.want, tt.last)
			}
		})
	}
}

func TestOutputToLog(t *testing.T) {
	var log strings.Builder
	s := Script{Command: "echo hello"}
	s.Logger = slog.New(slog.NewTextHandler(&log, nil))
	if err := s.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); !strings.Contains(got, `level=INFO msg="script output"`) || !strings.Contains(got, "line=hello") {
		t.Errorf("log: %s", got)
	}
}

// FuzzLines: whatever a script prints, what is handed on is printable, whole and
// bounded.
func FuzzLines(f *testing.F) {
	f.Add("a\nb\r\n\x1b[2J")
	f.Add(strings.Repeat("ü", maxLine))
	f.Fuzz(func(t *testing.T, in string) {
		var got []string
		Script{Output: func(l string) { got = append(got, l) }}.copyOutput(iotest.HalfReader(strings.NewReader(in)))
		for _, l := range got {
			for _, r := range l {
				if r < ' ' || r == 0x7f {
					t.Fatalf("%q has a control character", l)
				}
			}
			if !utf8.ValidString(l) || len(l) > 6*maxLine {
				t.Fatalf("%q is not printable or has %d bytes", l, len(l))
			}
		}
	})
}
