package tsp_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sixin4/tsp"
)

// script is one file of testdata/tsp: sessions as bytes.
//
//	transport: tcp            or udp, or both: written like tcp, see datagrams
//	spoken-by: another broker the S lines are not in our own form
//	plays: client             or broker: which side our code can play; without it, both
//	user: alice               who the client says it is, without it alice
//	password: secret          and with what password, without it secret, which is right
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
	both    bool
	foreign bool
	plays   string
	conns   []connection
}

type connection struct {
	user     string
	password string
	want     string
	turns    []turn
	data     [][]byte
}

// turn is one message: a datagram, or bytes that were written in one piece.
type turn struct {
	client bool
	header tsp.Header
	text   []byte
}

// The scripts there are, so that none is lost without notice: files, and connections in
// them, each counted once for each transport.
const (
	scriptFiles = 42
	dialogues   = 230
)

// scripts are all scripts, those for both transports twice.
func scripts(t testing.TB) []script {
	t.Helper()
	files, err := filepath.Glob("../testdata/tsp/*.txt")
	if err != nil || len(files) < scriptFiles {
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
		if s.both {
			all = append(all, s.datagrams())
		}
	}
	n := 0
	for _, s := range all {
		n += len(s.conns)
	}
	if n < dialogues {
		t.Fatalf("%d dialogues", n)
	}
	return all
}

// datagrams is a script for a stream as one for datagrams: every message of the
// client is answered, by a bare header where a stream has nothing, and every answer is
// asked for, by a bare header where a stream has two in a row.
func (s script) datagrams() script {
	s.udp = true
	s.conns = slices.Clone(s.conns)
	for i, c := range s.conns {
		h := tsp.Header{Word: 0xf00000ef, Timestamp: 0x1ca}
		var turns []turn
		for j, t := range c.turns {
			if t.client || j > 0 && !c.turns[j-1].client {
				h.Word++
			}
			if !t.client && j > 0 && !c.turns[j-1].client {
				turns = append(turns, turn{client: true, header: h})
			}
			turns = append(turns, turn{t.client, h, t.text})
			if t.client && (j+1 == len(c.turns) || c.turns[j+1].client) {
				turns = append(turns, turn{header: h})
			}
		}
		s.conns[i].turns = turns
	}
	return s
}

func parseScript(text string) (s script, err error) {
	c := &connection{user: "alice", password: "secret"}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		key, rest, _ := strings.Cut(line, ": ")
		switch {
		case strings.HasPrefix(line, "#"):
		case line == "---":
			s.conns, c = append(s.conns, *c), &connection{user: "alice", password: "secret"}
		case key == "transport":
			s.udp, s.both = rest == "udp", rest == "both"
		case key == "spoken-by":
			s.foreign = true
		case key == "plays":
			s.plays = rest
		case key == "user":
			c.user = rest
		case key == "password":
			c.password = rest
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

// lost is how many datagrams of the client had no answer, and were sent again.
func (c connection) lost() (n int) {
	for i, t := range c.turns {
		if t.client && i+1 < len(c.turns) && c.turns[i+1].client && t.header.Word != 0 {
			n++
		}
	}
	return n
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
