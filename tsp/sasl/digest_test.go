package sasl

import (
	"errors"
	"strings"
	"testing"
)

// The digests of three recorded sessions: user alice, password secret.
var recorded = []struct {
	name, challenge, cnonce, server string
	response                        string
	rspauth                         string
}{
	{
		"qop without quotes", `realm="cdpatsps",nonce="43BC5575",qop=auth,algorithm=md5-sess,charset=utf8`, "1795377807", "192.0.2.1",
		`charset=utf8,username="alice",realm="cdpatsps",nonce="43BC5575",nc=00000001,cnonce="1795377807",digest-uri="tsp/192.0.2.1",response=d099ae4a251c74bffc8c3af25a57fb80,qop=auth`,
		"rspauth=cc64a9bd35fcdac5996d9b9626426f1a",
	},
	{
		"qop in quotes", `realm="Freenet6",nonce="b3734afc",qop="auth",algorithm=md5-sess,charset=utf8`, "1795377929", "192.0.2.1",
		`charset=utf8,username="alice",realm="Freenet6",nonce="b3734afc",nc=00000001,cnonce="1795377929",digest-uri="tsp/192.0.2.1",response=e9997b2a67e62da991d06bf475f37122,qop=auth`,
		"rspauth=d8978c5f335ea9b953063d15740a1b0a",
	},
	{
		"port in the uri", `realm="Freenet6",nonce="7e082d95",qop="auth",algorithm=md5-sess,charset=utf8`, "1795378800", "192.0.2.1:3653",
		`charset=utf8,username="alice",realm="Freenet6",nonce="7e082d95",nc=00000001,cnonce="1795378800",digest-uri="tsp/192.0.2.1:3653",response=51a9b919052cb3e9eeb918c043e7b840,qop=auth`,
		"rspauth=ab57012ec95c87e7506f86b48f0b7b7e",
	},
}

func fixed(s string) func() string { return func() string { return s } }

func TestDigestVectorsClient(t *testing.T) {
	for _, tt := range recorded {
		t.Run(tt.name, func(t *testing.T) {
			c := digestTo(t, tt.server, tt.cnonce)
			out, done, err := c.Next([]byte(tt.challenge))
			if err != nil || done || string(out) != tt.response {
				t.Fatalf("%s\nwant %s\n%v %v", out, tt.response, done, err)
			}
			if out, done, err := c.Next([]byte(tt.rspauth)); err != nil || !done || out != nil {
				t.Errorf("%q %v %v", out, done, err)
			}
			if _, _, err := c.Next([]byte(tt.rspauth)); !errors.Is(err, ErrProtocol) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

// digestTo is a client that waits for its challenge.
func digestTo(t *testing.T, server, cnonce string) Client {
	t.Helper()
	c, err := NewClient(DigestMD5, Credentials{User: "alice", Password: "secret", Server: server, Nonce: fixed(cnonce)})
	if err != nil {
		t.Fatal(err)
	}
	if out, done, err := c.Next(nil); out != nil || done || err != nil {
		t.Fatalf("%q %v %v", out, done, err)
	}
	return c
}

func TestDigestVectorsServer(t *testing.T) {
	for _, tt := range recorded {
		t.Run(tt.name, func(t *testing.T) {
			fields, err := parseFields([]byte(tt.challenge))
			if err != nil {
				t.Fatal(err)
			}
			s := digestServerFor(t, fields["realm"], fields["nonce"])
			challenge, done, err := s.Next(nil)
			want := strings.Replace(tt.challenge, "qop=auth", `qop="auth"`, 1)
			if err != nil || done || string(challenge) != want {
				t.Fatalf("%s, %v %v", challenge, done, err)
			}
			out, done, err := s.Next([]byte(tt.response))
			if err != nil || !done || string(out) != tt.rspauth || s.User() != "alice" {
				t.Errorf("%s %v %v %q", out, done, err, s.User())
			}
		})
	}
}

func digestServerFor(t *testing.T, realm, nonce string) Server {
	t.Helper()
	s, err := NewDigestServer(DigestConfig{Realm: realm, Nonce: fixed(nonce), Lookup: func(user string) (Digest, bool) {
		return NewDigest("alice", realm, "secret"), user == "alice"
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDigestServerRefuses(t *testing.T) {
	good := recorded[1].response
	tests := []struct{ name, old, new string }{
		{"user", `"alice"`, `"bob"`},
		{"user missing", `username="alice",`, ""},
		{"realm", `"Freenet6"`, `"freenet6"`},
		{"nonce", "b3734afc", "b3734afd"},
		{"nonce missing", `nonce="b3734afc",`, ""},
		{"count", "00000001", "00000002"},
		{"cnonce", `cnonce="1795377929"`, `cnonce="1"`},
		{"cnonce missing", `cnonce="1795377929",`, ""},
		{"uri", "tsp/192.0.2.1", "tsp/192.0.2.2"},
		{"uri missing", `digest-uri="tsp/192.0.2.1",`, ""},
		{"response", "e9997b2a", "e9997b2b"},
		{"response missing", "response=e9997b2a67e62da991d06bf475f37122,", ""},
		{"response empty", "e9997b2a67e62da991d06bf475f37122", ""},
		{"qop", "qop=auth", "qop=auth-int"},
		{"response twice", "qop=auth", "response=e9997b2a67e62da991d06bf475f37122"},
		{"quote open", `"alice"`, `"alice`},
		{"everything", good, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			changed := strings.Replace(good, tt.old, tt.new, 1)
			if changed == good {
				t.Fatal("nothing was replaced")
			}
			s := digestServerFor(t, "Freenet6", "b3734afc")
			if _, _, err := s.Next(nil); err != nil {
				t.Fatal(err)
			}
			out, done, err := s.Next([]byte(changed))
			if done || out != nil || s.User() != "" || !errors.Is(err, ErrAuth) && !errors.Is(err, ErrProtocol) {
				t.Errorf("%q %v %v", out, done, err)
			}
		})
	}
}

func TestDigestClientChallenges(t *testing.T) {
	tests := []struct {
		name, challenge string
		ok              bool
		holds           string
	}{
		{"realm without quotes", `realm=hexos,nonce=1,qop=auth,charset=utf8`, true, `realm="hexos"`},
		{"blanks", `realm="a", nonce="1", qop="auth"`, true, `nonce="1"`},
		{"blank lines", "realm=\"a\",\r\n nonce = \"1\" , qop=auth", true, `nonce="1"`},
		{"utf-8", `realm="a",nonce="1",charset=utf-8`, true, "charset=utf-8,"},
		{"no charset", `realm="a",nonce="1"`, true, `username="alice"`},
		{"more qop", `realm="a",nonce="1",qop="auth-int, auth"`, true, "qop=auth"},
		{"escapes", `realm="a\"b\\",nonce="1"`, true, `realm="a\"b\\"`},
		{"two realms", `realm="a",realm="b",nonce="1"`, true, `realm="a"`},
		{"unknown fields", `realm="a",nonce="1",maxbuf=65536,cipher="rc4,des"`, true, `realm="a"`},
		{"no nonce", `realm="a",qop=auth`, false, ""},
		{"two nonces", `realm="a",nonce="1",nonce="2"`, false, ""},
		{"qop", `realm="a",nonce="1",qop=auth-conf`, false, ""},
		{"algorithm", `realm="a",nonce="1",algorithm=md5`, false, ""},
		{"charset", `realm="a",nonce="1",charset=latin1`, false, ""},
		{"nothing", ``, false, ""},
		{"no field", `realm`, false, ""},
		{"no name", `="a"`, false, ""},
		{"open quote", `realm="a,nonce="1"`, false, ""},
		{"open escape", `realm="a\`, false, ""},
		{"control character", "realm=\"a\x1b\",nonce=\"1\"", false, ""},
		{"fields without end", strings.Repeat("a=b,", 40), false, ""},
		{"long", `nonce="` + strings.Repeat("1", 3000) + `"`, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, done, err := digestTo(t, "192.0.2.1", "1").Next([]byte(tt.challenge))
			if (err == nil) != tt.ok || done || !strings.Contains(string(out), tt.holds) {
				t.Errorf("%s %v", out, err)
			}
			if err != nil && !errors.Is(err, ErrProtocol) {
				t.Error(err)
			}
		})
	}
}

func TestDigestClientTrustsNobody(t *testing.T) {
	for _, proof := range []string{"", "rspauth=", "rspauth=d8978c5f335ea9b953063d15740a1b0b", "x=d8978c5f335ea9b953063d15740a1b0a"} {
		c := digestTo(t, "192.0.2.1", recorded[1].cnonce)
		if _, _, err := c.Next([]byte(recorded[1].challenge)); err != nil {
			t.Fatal(err)
		}
		if _, done, err := c.Next([]byte(proof)); done || !errors.Is(err, ErrAuth) {
			t.Errorf("%q: %v %v", proof, done, err)
		}
	}
}

func TestDigestRealm(t *testing.T) {
	for _, realm := range []string{"", "a b", `a"b`, "a,b", "a@b", "a_b"} {
		if _, err := NewDigestServer(DigestConfig{Realm: realm}); err == nil {
			t.Errorf("%q was taken", realm)
		}
	}
}
