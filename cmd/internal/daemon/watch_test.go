package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"sixin4/tun/ifcfg"
)

// TestSaidOfTheRestored is about what is said of an address or a route that the interface had lost.
func TestSaidOfTheRestored(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		err        error
	}{
		{"added", "restored what the interface had lost", nil},
		{"there again already", "", syscall.EEXIST},
		{"interface gone", "", fmt.Errorf("add address: %w", syscall.ENODEV)},
		{"refused", "not restored", syscall.EPERM},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			tun := &tunnel{name: "six0", env: Env{Logger: slog.New(slog.NewTextHandler(&log, nil))}}
			tun.restore(netip.MustParsePrefix("2001:db8::1/64"), func(netip.Prefix) (ifcfg.Undo, error) { return nil, tt.err })
			if got := log.String(); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("said %q, want %q", got, tt.want)
			}
		})
	}
}
