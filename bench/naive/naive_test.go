package naive

import (
	"net/netip"
	"strings"
	"testing"
)

// What the loop carries is tested where it is compared: Run is for a process of
// its own.
func TestRunRefusesWhatIsNotIPv4(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, test := range []struct {
		name string
		cfg  Config
	}{
		{"local", Config{Name: "six0", Local: six, Remote: four}},
		{"remote", Config{Name: "six0", Local: four, Remote: six}},
		{"nothing", Config{Name: "six0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := Run(t.Context(), test.cfg); err == nil || !strings.Contains(err.Error(), "both must be IPv4") {
				t.Errorf("error %v", err)
			}
		})
	}
}
