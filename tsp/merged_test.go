package tsp_test

import (
	"net/netip"
	"strings"
	"testing"

	"sixin4/tsp"
)

// TestMergedAttribute: merged TCP is written only where it is asked for, and what stands in
// the attribute is never a reason to refuse.
func TestMergedAttribute(t *testing.T) {
	r := tsp.Request{Action: tsp.ActionCreate, Type: tsp.V6UDPV4, Client: netip.MustParseAddr("192.0.2.2")}
	const without = `<tunnel action="create" type="v6udpv4" proxy="no">`
	texts := make(map[bool]string)
	for _, r.Merged = range []bool{false, true} {
		m, err := r.Message()
		if err != nil {
			t.Fatal(err)
		}
		texts[r.Merged] = string(m.XML)
	}
	with := strings.Replace(texts[false], without, strings.TrimSuffix(without, ">")+` merged="tcp">`, 1)
	if with == texts[false] || texts[true] != with {
		t.Fatalf("%q with merged TCP, %q without", texts[true], texts[false])
	}
	for value, want := range map[string]bool{
		"tcp": true, "TCP": true, "": false, "no": false, "udp": false, " tcp": false, "tcp,udp": false, "1": false,
	} {
		got, err := tsp.ParseRequest([]byte(strings.Replace(with, `"tcp"`, `"`+value+`"`, 1)))
		if err != nil || got.Merged != want {
			t.Errorf("merged=%q: %+v, %v", value, got, err)
		}
	}
}

// TestMergedAnnounced: the token is the last of the line, and not there when it does not hold.
func TestMergedAnnounced(t *testing.T) {
	c := tsp.Capability{Tunnels: []tsp.Type{tsp.V6UDPV4}, Auths: []string{"PLAIN"}}
	if got := string(c.Line()); got != "CAPABILITY TUNNEL=V6UDPV4 AUTH=PLAIN\r\n" {
		t.Errorf("%q", got)
	}
	c.Merged = true
	if got := string(c.Line()); got != "CAPABILITY TUNNEL=V6UDPV4 AUTH=PLAIN M=TCP\r\n" {
		t.Errorf("%q", got)
	}
}
