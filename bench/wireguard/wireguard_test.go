package wireguard

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// What the tunnel carries is tested where it is compared: Run needs a namespace.
func TestSettings(t *testing.T) {
	if err := Run(t.Context(), Config{Name: "six0"}); err == nil || !strings.Contains(err.Error(), "both must be given") {
		t.Errorf("error %v", err)
	}
	value := func(first bool, name string) string {
		t.Helper()
		s, err := Config{Port: 7, Remote: netip.MustParseAddrPort("192.0.2.1:7"), Seed: "one", First: first}.settings()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut("\n"+s, "\n"+name+"=")
		v, _, _ := strings.Cut(rest, "\n")
		return v
	}
	if a, b := value(true, "private_key"), value(false, "private_key"); len(a) != 64 || a == b {
		t.Errorf("private keys %s and %s: want two of 32 bytes", a, b)
	}
	own, err := key("one", true)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := value(false, "public_key"), hex.EncodeToString(own.PublicKey().Bytes()); got != want {
		t.Errorf("the second end believes the first one's public key to be %q, want %q", got, want)
	}
	if got := value(true, "endpoint"); got != "192.0.2.1:7" {
		t.Errorf("endpoint %q", got)
	}
}
