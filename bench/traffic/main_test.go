package traffic

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"sixin4/bench/child"
)

// childArg makes the test program behave as the child process.
const childArg = "traffic-child"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childArg {
		os.Exit(Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func testRunner(t *testing.T) Runner {
	t.Helper()
	self, err := child.Self()
	if err != nil {
		t.Fatal(err)
	}
	return Runner{Command: []string{self, childArg}}
}

func TestWorkRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no job", nil, "need one"},
		{"not JSON", []string{"tcp"}, "invalid character"},
		{"unknown role", []string{`{"role":"sctp","to":"127.0.0.1:0"}`}, `"sctp"`},
		{"no streams", []string{`{"role":"tcp","to":"127.0.0.1:1"}`}, "0 streams"},
		{"no rate", []string{`{"role":"udp","to":"127.0.0.1:1"}`}, "need a rate"},
		{"no count", []string{`{"role":"ping","to":"127.0.0.1:0"}`}, "0 requests"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			err := work(context.Background(), test.args, strings.NewReader(""), &out)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if out.Len() != 0 {
				t.Errorf("printed %q", out.String())
			}
		})
	}
}
