package client_test

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/tsptest"
)

// TestTrace: all that is said, but for what gives the password away.
func TestTrace(t *testing.T) {
	tests := []struct {
		method    string
		transport client.Transport
		want      string // of the authentication, sent and received lines
	}{
		{"anonymous", client.TCP, "C AUTHENTICATE ANONYMOUS|S 200 Success"},
		{"plain", client.TCP, "C AUTHENTICATE PLAIN|C (credentials)|S 200 Success"},
		{"plain", client.UDP, "C AUTHENTICATE PLAIN|C (credentials)|S 200 Success"},
		{"digest-md5", client.TCP, "C AUTHENTICATE DIGEST-MD5|S *|C (credentials)|S *|S 200 Success"},
		{"digest-md5", client.UDP, "C AUTHENTICATE DIGEST-MD5|S *|C (credentials)|S *|S 200 Success"},
		{"scram-sha-256", client.TCP, "C AUTHENTICATE SCRAM-SHA-256 (credentials)|S *|C (credentials)|S (credentials)|S 200 Success"},
	}
	for _, tt := range tests {
		t.Run(tt.method+" over "+tt.transport.String(), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				b := w.broker(brokerAddr, tsptest.Config{})
				c := w.config()
				c.Method, c.Transport, c.Once = tt.method, tt.transport, true
				var lines []string
				c.Trace = func(sent bool, text []byte) {
					lines = append(lines, map[bool]string{true: "C ", false: "S "}[sent]+strings.TrimSuffix(string(text), "\r\n"))
				}
				if err := w.run(c); err != nil {
					t.Fatal(err)
				}
				want := append([]string{"C VERSION=2.0.2", "S *"}, strings.Split(tt.want, "|")...)
				want = append(want, "C "+text(t, b.Accepts()[0].Request.Message), "S "+text(t, b.Accepts()[0].Tunnel.Message),
					"C Content-length: 35\r\n<tunnel action=\"accept\"></tunnel>")
				if len(lines) != len(want) {
					t.Fatalf("%d lines: %q", len(lines), lines)
				}
				for i, w := range want {
					if lines[i] != w && w != "S *" || strings.Contains(lines[i], "secret") || strings.Contains(lines[i], "\x00") {
						t.Errorf("%q, want %q", lines[i], w)
					}
				}
			})
		})
	}
}

func text(t *testing.T, message func() (tsp.Message, error)) string {
	t.Helper()
	m, err := message()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(m.Bytes()), "\r\n")
}

// TestLog: one line for each change of state, and a warning where a NAT is on the way.
func TestLog(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broker(brokerAddr, withAnswer(func(t *tsp.Tunnel) { t.Client4 = netip.MustParseAddr("203.0.113.77") }))
		var log bytes.Buffer
		c := w.config()
		c.Once = true
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		if err := w.run(c); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"level=INFO msg=connecting server=192.0.2.1\n", "level=WARN msg=\"the broker sees another address", "level=INFO msg=\"tunnel agreed on\""} {
			if strings.Count(log.String(), want) != 1 {
				t.Errorf("no %s in:\n%s", want, &log)
			}
		}
		if n := strings.Count(log.String(), "\n"); n != 3 || strings.Contains(log.String(), "secret") {
			t.Errorf("%d lines:\n%s", n, &log)
		}
	})
}
