package sasl

import "testing"

// FuzzDigestChallenge: whatever a broker sends, the client answers with something
// that can be read again and means the same, or has an error.
func FuzzDigestChallenge(f *testing.F) {
	for _, r := range recorded {
		f.Add([]byte(r.challenge))
		f.Add([]byte(r.response))
	}
	f.Add([]byte(`realm="a\"b\\c",nonce="1", qop="auth,auth-int"`))
	f.Fuzz(func(t *testing.T, challenge []byte) {
		c, err := NewClient(DigestMD5, Credentials{User: `al"i\ce`, Password: "secret", Server: "192.0.2.1", Nonce: fixed("1")})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Next(nil); err != nil {
			t.Fatal(err)
		}
		out, done, err := c.Next(challenge)
		if err != nil || done {
			if out != nil || done {
				t.Errorf("%q %v %v", out, done, err)
			}
			return
		}
		asked, err := parseFields(challenge)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := parseFields(out)
		if len(out) > maxDigest {
			return // of a challenge full of quotes; the broker will refuse it
		}
		if err != nil || answer["nonce"] != asked["nonce"] || answer["realm"] != asked["realm"] || answer["username"] != `al"i\ce` {
			t.Errorf("%q: %v", out, err)
		}
	})
}
