package tsp

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// seeds gives a fuzz target the texts of the recorded sessions, line by line, and the
// XML in them.
func seeds(f *testing.F, add func(text string)) {
	files, err := filepath.Glob("../testdata/tsp/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d files, %v", len(files), err)
	}
	unescape := strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\t`, "\t", `\0`, "\x00", "\n | ", "")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for part := range strings.SplitSeq(unescape.Replace(string(b)), "\nS: ") {
			text, _, _ := strings.Cut(part, "\nC: ")
			add(text)
			if i := strings.Index(part, "<tunnel"); i >= 0 {
				add(part[i:])
			}
		}
	}
}

// FuzzLines: the readers of lines, which take anything without fault, and mean the
// same when they read what they wrote.
func FuzzLines(f *testing.F) {
	seeds(f, func(text string) { f.Add([]byte(text)) })
	f.Add([]byte("AUTHENTICATE SCRAM-SHA-256 biws"))
	f.Add([]byte("capability tunnel=v6v4 auth=plain m=tcp"))
	f.Fuzz(func(t *testing.T, text []byte) {
		line, err := newReader(bytes.NewReader(text)).line()
		if err != nil {
			return
		}
		if bytes.ContainsAny(line, "\r\n") || len(line) > 0 && line[0] == 0 || len(line) > MaxLine {
			t.Errorf("line %q", line)
		}
		if v, err := ParseVersion(line); err == nil {
			if again, err := ParseVersion(v.Line()); again != v || err != nil {
				t.Errorf("version %q, %v", again, err)
			}
		}
		if c, err := ParseCapability(line); err == nil {
			if again, err := ParseCapability(c.Line()); !reflect.DeepEqual(again, c) || err != nil {
				t.Errorf("capability %+v, then %+v, %v", c, again, err)
			}
		}
		if name, initial, err := ParseAuthenticate(line); err == nil {
			name2, initial2, err := ParseAuthenticate(AuthenticateLine(name, initial))
			if name2 != name || !bytes.Equal(initial2, initial) || err != nil {
				t.Errorf("authenticate %q %q, %v", name2, initial2, err)
			}
		}
	})
}

// FuzzFrames: the reader of messages never gives more than it may, and what it gives
// is the same when it is written and read again.
func FuzzFrames(f *testing.F) {
	seeds(f, func(text string) { f.Add([]byte(text), true) })
	f.Add([]byte("Content-length: 1073741824\r\n"), false)
	f.Fuzz(func(t *testing.T, text []byte, answer bool) {
		m, err := parseText(text, answer)
		if err != nil {
			return
		}
		if len(m.XML) > MaxMessage || len(m.Line) > MaxMessage {
			t.Errorf("%d and %d bytes", len(m.Line), len(m.XML))
		}
		if err := m.Err(); err != nil && strings.ContainsAny(err.Error(), "\x00\x1b\r\n") {
			t.Errorf("not fit for a log: %q", err)
		}
		if m.Framed && (len(m.Line) > 0 || len(m.XML) > 0) && len(m.Bytes()) <= MaxMessage {
			again, err := parseText(m.Bytes(), answer)
			if err != nil || !bytes.Equal(again.Line, m.Line) || !bytes.Equal(again.XML, m.XML) {
				t.Errorf("%q %q, then %q %q, %v", m.Line, m.XML, again.Line, again.XML, err)
			}
		}
	})
}

// FuzzTunnel: a tunnel that is read has passed its checks, and is the same when it is
// written and read again.
func FuzzTunnel(f *testing.F) {
	seeds(f, func(text string) { f.Add([]byte(text)) })
	f.Fuzz(func(t *testing.T, doc []byte) {
		tunnel, err := ParseTunnel(doc)
		if err != nil {
			return
		}
		if err := tunnel.Check(); err != nil {
			t.Fatal(err)
		}
		if len(tunnel.DNS) == 0 {
			tunnel.DNS = append(tunnel.DNS, tunnel.Server6)
		}
		m, err := tunnel.Message()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseTunnel(m.XML); err != nil || !reflect.DeepEqual(again, tunnel) {
			t.Errorf("%+v, then %+v, %v", tunnel, again, err)
		}
	})
}

// FuzzRequest: the same for what clients ask.
func FuzzRequest(f *testing.F) {
	seeds(f, func(text string) { f.Add([]byte(text)) })
	f.Fuzz(func(t *testing.T, doc []byte) {
		r, err := ParseRequest(doc)
		if err != nil {
			if _, ok := err.(*Error); !ok {
				t.Errorf("no status: %v", err)
			}
			return
		}
		m, err := r.Message()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRequest(m.XML)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v, then %+v, %v", r, again, err)
		}
	})
}

// FuzzHeader: a datagram is taken apart without loss.
func FuzzHeader(f *testing.F) {
	f.Add([]byte("\xf0\x00\x00\xf0\x00\x00\x01\xe4VERSION=2.0.2\r\n"))
	f.Add([]byte("\x01\x00\x00\xf0\x00\x00\x01\xe4"))
	f.Add([]byte("\xff\xff\xff\xff\x00\x00\x00\x00310 TSP status error"))
	f.Add(append([]byte("\x60\x00\x00\xf0"), make([]byte, 36)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, text, err := ParseHeader(b)
		if (err == nil) != (Classify(b) == Control) {
			t.Fatal(err)
		}
		if err == nil && !bytes.Equal(h.Datagram(text), b) {
			t.Errorf("%x", h.Datagram(text))
		}
		if h.Sequence() > 0x0fffffff {
			t.Errorf("sequence %x", h.Sequence())
		}
		Forgotten(b)
	})
}
