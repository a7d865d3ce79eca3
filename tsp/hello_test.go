package tsp

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	tests := []struct {
		name, line string
		want       Version
		code       Code
	}{
		{"newest", "VERSION=2.0.2", V202, 0},
		{"any case", "version=2.0.0", V200, 0},
		{"with a zero byte", "VERSION=1.0.1\x00", V101, 0},
		{"newer", "VERSION=2.0.3", "", BadVersion},
		{"empty", "VERSION=", "", BadVersion},
		{"words behind", "VERSION=2.0.2 x", "", BadVersion},
		{"another line", "HELO", "", BadRequest},
		{"nothing", "", "", BadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseVersion([]byte(tt.line))
			var status *Error
			if got != tt.want || errors.As(err, &status) != (tt.code != 0) || status != nil && status.Code != tt.code {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestVersionLadder(t *testing.T) {
	var all []Version
	for v, ok := V202, true; ok; v, ok = v.Older() {
		all = append(all, v)
	}
	if !reflect.DeepEqual(all, Versions()) || V101.Accepts() || !V200.Accepts() {
		t.Errorf("%v", all)
	}
	if v, ok := Version("3").Older(); ok {
		t.Errorf("%q is older than 3", v)
	}
}

func TestParseCapability(t *testing.T) {
	tests := []struct {
		name, line string
		want       Capability
		ok         bool
	}{
		{"all", "CAPABILITY TUNNEL=V6V4 TUNNEL=V6UDPV4 AUTH=ANONYMOUS AUTH=PASSDSS-3DES-1",
			Capability{[]Type{V6V4, V6UDPV4}, []string{"ANONYMOUS", "PASSDSS-3DES-1"}, false}, true},
		{"any order and case", "capability auth=plain tunnel=v6v4", Capability{[]Type{V6V4}, []string{"PLAIN"}, false}, true},
		{"tabs", "CAPABILITY\tTUNNEL=V6V4\t\x00", Capability{Tunnels: []Type{V6V4}}, true},
		{"unknown", "CAPABILITY X TUNNEL=V6GRE TUNNEL=V6ANYV4 AUTH= AUTH=A\x1bB FOO=BAR", Capability{}, true},
		{"twice", "CAPABILITY TUNNEL=V6V4 TUNNEL=V6V4", Capability{Tunnels: []Type{V6V4}}, true},
		{"empty", "CAPABILITY", Capability{}, true},
		{"merged", "CAPABILITY TUNNEL=V6UDPV4 M=TCP", Capability{Tunnels: []Type{V6UDPV4}, Merged: true}, true},
		{"merged, any order and case", "CAPABILITY m=Tcp AUTH=PLAIN", Capability{nil, []string{"PLAIN"}, true}, true},
		{"merged, and something else", "CAPABILITY M=UDP M=TCP M=SCTP", Capability{Merged: true}, true},
		{"something else merged", "CAPABILITY M M= M=UDP M=TCPX M=TCP=1 MM=TCP TUNNEL=M", Capability{}, true},
		{"another line", "200 Success", Capability{}, false},
		{"nothing", "", Capability{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseCapability([]byte(tt.line))
			if !reflect.DeepEqual(got, tt.want) || (err == nil) != tt.ok {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	c := Capability{Tunnels: []Type{V6V4}}
	if !c.Offers(V6AnyV4) || !c.Offers(V6V4) || c.Offers(V6UDPV4) || (Capability{}).Offers(V6AnyV4) {
		t.Error("offers the wrong types")
	}
}

func TestParseAuthenticate(t *testing.T) {
	tests := []struct {
		name, line, mechanism, initial string
		ok                             bool
	}{
		{"anonymous", "AUTHENTICATE ANONYMOUS", "ANONYMOUS", "", true},
		{"zero byte and backspace behind", "authenticate plain\x00\b", "PLAIN", "", true},
		{"first message", "AUTHENTICATE SCRAM-SHA-256 biws", "SCRAM-SHA-256", "n,,", true},
		{"not base64", "AUTHENTICATE SCRAM-SHA-256 *", "", "", false},
		{"no mechanism", "AUTHENTICATE", "", "", false},
		{"too many words", "AUTHENTICATE A B C", "", "", false},
		{"not a name", "AUTHENTICATE A/B", "", "", false},
		{"another line", "VERSION=2.0.2", "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mechanism, initial, err := ParseAuthenticate([]byte(tt.line))
			if mechanism != tt.mechanism || string(initial) != tt.initial || (err == nil) != tt.ok {
				t.Errorf("%q %q %v", mechanism, initial, err)
			}
		})
	}
	if got := string(AuthenticateLine("scram-sha-256", []byte("n,,"))); got != "AUTHENTICATE SCRAM-SHA-256 biws\r\n" {
		t.Errorf("%q", got)
	}
}

func TestStatusLines(t *testing.T) {
	tests := []struct {
		name, line, err string
		code            Code
	}{
		{"success", "200 Success", "", Success},
		{"success in other words", "200 fine", "", Success},
		{"number only", "200", "", Success},
		{"refused", "300 Authentication failed", `status 300 "Authentication failed"`, AuthFailed},
		{"no text", "310", "status 310 Server side error", ServerError},
		{"unknown", "444 What", `status 444 "What"`, 444},
		{"escapes", "310 a\x1b[2Jb\xff", `status 310 "a?[2Jb?"`, ServerError},
		{"redirected, no list", "1530 x", `status 1530 "x": malformed message: redirected without a broker list`, 1530},
		{"base64", "cmVhbG09", "", 0},
		{"digits of base64", "2000abcd", "", 0},
		{"too large", "2000", "", 0},
		{"too small", "99 x", "", 0},
		{"long", "20000 x", "", 0},
		{"sign", "+200 x", "", 0},
		{"blank in front", " 200", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := Message{Line: []byte(tt.line)}
			got := ""
			if err := m.Err(); err != nil {
				got = err.Error()
			}
			if m.Code() != tt.code || got != tt.err {
				t.Errorf("%d %q", m.Code(), got)
			}
		})
	}
	long := (&Message{Line: []byte("310 " + strings.Repeat("x", 1000))}).Err().Error()
	if len(long) > 200 {
		t.Errorf("%d bytes", len(long))
	}
	if Code(1530).Text() != "Server busy" || Redirection.String() != "1200 Redirection" || !Busy.Temporary() || ServerError.Temporary() {
		t.Error("codes")
	}
}

func TestMessages(t *testing.T) {
	tests := []struct {
		name, text string
		answer     bool
		line, xml  string
		framed     bool
	}{
		{"CR LF", "VERSION=2.0.2\r\n", false, "VERSION=2.0.2", "", false},
		{"LF", "VERSION=2.0.2\n", false, "VERSION=2.0.2", "", false},
		{"no end", "VERSION=2.0.2", false, "VERSION=2.0.2", "", false},
		{"CR and backspace", "AUTHENTICATE ANONYMOUS\r\b", false, "AUTHENTICATE ANONYMOUS", "", false},
		{"zero byte in front", "\x00VERSION=2.0.2\r\n", false, "VERSION=2.0.2", "", false},
		{"zero byte behind", "AUTHENTICATE PLAIN\r\n\x00", false, "AUTHENTICATE PLAIN", "", false},
		{"credentials behind a stray zero", "\x00\x00alice\x00secret\r\n", false, "alice\x00secret", "", false},
		{"nothing", "", false, "", "", false},
		{"zero bytes only", "\x00\x00", false, "", "", false},
		{"command", "\x00Content-length: 9\r\n<tunnel/>", false, "", "<tunnel/>", true},
		{"any case, no blank", "content-LENGTH:9\n<tunnel/>", false, "", "<tunnel/>", true},
		{"blanks behind", "Content-length: \t9 \r\n<tunnel/>", false, "", "<tunnel/>", true},
		{"answer", "Content-length: 22\r\n200 Success\r\n<tunnel/>", true, "200 Success", "<tunnel/>", true},
		{"error", "Content-length: 5\r\n310\r\n", true, "310", "", true},
		{"error, bare", "310 Unsupported client tunnel\r\n", true, "310 Unsupported client tunnel", "", false},
		{"redirection, bare", "1200 x\r\n <tunnel></tunnel>\r\n", true, "1200 x", "<tunnel></tunnel>", false},
		{"redirection, no end", "1200 x\n<tunnel></tunnel>", true, "1200 x", "<tunnel></tunnel>", false},
		{"redirection to nowhere", "1200 x\r\n", true, "1200 x", "", false},
		{"redirection to a line", "1200 x\r\nfoo\r\n", true, "1200 x", "", false},
		{"a user like a redirection", "\x001200 x\x00<tunnel></tunnel>", false, "1200 x\x00<tunnel></tunnel>", "", false},
		{"two answers in one", "cnNw\r\n200 Success\r\n", true, "cnNw", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := parseText([]byte(tt.text), tt.answer)
			if err != nil || string(m.Line) != tt.line || string(m.XML) != tt.xml || m.Framed != tt.framed {
				t.Errorf("%q %q %v, %v", m.Line, m.XML, m.Framed, err)
			}
		})
	}
}
