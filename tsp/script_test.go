package tsp_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sixin4/tsp"
)

// script is one file of testdata/tsp: sessions as bytes.
//
//	transport: tcp            or udp
//	spoken-by: another broker the S lines are not in our own form
//	want: v6v4 86400s ...     what must come out of the connection; see summary
//	C: text                   the client says; \r \n \t \0 \\ \xHH are escapes
//	S: text                   the broker says
//	 | text                   goes on
//	C= hex                    data of the tunnel
//	---                       the next connection
//
// In datagrams the header comes first, as [word timestamp] in hex.
type script struct {
	name    string
	udp     bool
	foreign bool
	conns   []connection
}

type connection struct {
	want  string
	turns []turn
	data  [][]byte
}

// turn is one message: a datagram, or bytes that were written in one piece.
type turn struct {
	client bool
	header tsp.Header
	text   []byte
}

func scripts(t testing.TB) []script {
	t.Helper()
	files, err := filepath.Glob("../testdata/tsp/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	var all []script
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseScript(string(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		s.name = strings.TrimSuffix(filepath.Base(file), ".txt")
		all = append(all, s)
	}
	return all
}

func parseScript(text string) (s script, err error) {
	c := new(connection)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		key, rest, _ := strings.Cut(line, ": ")
		switch {
		case strings.HasPrefix(line, "#"):
		case line == "---":
			s.conns, c = append(s.conns, *c), new(connection)
		case key == "transport":
			s.udp = rest == "udp"
		case key == "spoken-by":
			s.foreign = true
		case key == "want":
			c.want = rest
		case strings.HasPrefix(line, "C= "), strings.HasPrefix(line, "S= "):
			packet, err := hex.DecodeString(line[3:])
			if err != nil {
				return s, err
			}
			c.data = append(c.data, packet)
		case strings.HasPrefix(line, " | "):
			last := &c.turns[len(c.turns)-1]
			last.text = append(last.text, unescape(line[3:])...)
		case key == "C", key == "S":
			turn, err := parseTurn(s.udp, rest)
			if err != nil {
				return s, fmt.Errorf("%q: %w", line, err)
			}
			turn.client = key == "C"
			c.turns = append(c.turns, turn)
		default:
			return s, fmt.Errorf("line %q", line)
		}
	}
	s.conns = append(s.conns, *c)
	return s, nil
}

func parseTurn(udp bool, rest string) (t turn, err error) {
	if udp {
		var header string
		header, rest, _ = strings.Cut(rest, "]")
		if _, err := fmt.Sscanf(header, "[%x %x", &t.header.Word, &t.header.Timestamp); err != nil {
			return t, err
		}
		rest = strings.TrimPrefix(rest, " ")
	}
	t.text = unescape(rest)
	return t, nil
}

func unescape(s string) []byte {
	var b bytes.Buffer
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if s[i] == 'x' {
			c, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				panic(err)
			}
			b.Write(c)
			i += 2
			continue
		}
		b.WriteString(map[byte]string{'r': "\r", 'n': "\n", 't': "\t", '0': "\x00", '\\': `\`}[s[i]])
	}
	return b.Bytes()
}

// texts are what one side of a connection says.
func (c connection) texts(client bool) [][]byte {
	var all [][]byte
	for _, t := range c.turns {
		if t.client == client {
			all = append(all, t.text)
		}
	}
	return all
}

// summary is a tunnel in the words of a want line.
func summary(t *tsp.Tunnel) string {
	s := fmt.Sprintf("%s %.0fs server %v %v client %v %v", t.Type, t.Lifetime.Seconds(), t.Server4, t.Server6, t.Client4, t.Client6)
	if t.Keepalive > 0 {
		s += fmt.Sprintf(" keepalive %.0fs %v", t.Keepalive.Seconds(), t.KeepaliveTo)
	}
	for i, a := range t.DNS {
		s += []string{" dns ", " "}[min(i, 1)] + a.String()
	}
	if t.Prefix.IsValid() {
		s += " prefix " + t.Prefix.String()
	}
	if t.ClientName != "" {
		s += " name " + t.ClientName
	}
	if t.MTU != 0 {
		s += fmt.Sprintf(" mtu %d", t.MTU)
	}
	return s
}
