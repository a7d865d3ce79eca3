package state

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sixin4/cmd/internal/hook"
)

const sample = `{"version":1,"owner":{"pid":7,"start":9,"boot":"b","netns":1},"records":[{"route":{"prefix":"2001:db8::/48","type":"unreachable"}}]}`

func TestParse(t *testing.T) {
	with := func(old, new string) string { return strings.Replace(sample, old, new, 1) }
	const route = `"route":{"prefix":"2001:db8::/48","type":"unreachable"}`
	for _, tt := range []struct{ name, text, want string }{
		{"as written", sample, ""},
		{"script", with(route, `"script":{"path":"/a","variables":[{"name":"TSP_VERBOSE","value":"1"}],"timeout_ns":5}`), ""},
		{"empty", "", "EOF"},
		{"cut", sample[:50], "unexpected EOF"},
		{"zero bytes", strings.Repeat("\x00", 50), "invalid character"},
		{"more behind it", sample + "}", "something behind its end"},
		{"version", with(`"version":1`, `"version":2`), "version 2, not 1"},
		{"no version", `{}`, "version 0, not 1"},
		{"unknown key", with(`"version"`, `"x":1,"version"`), `unknown field "x"`},
		{"no boot", with(`"b"`, `""`), "no owner"},
		{"negative process", with(`7`, `-7`), "no owner"},
		{"no records", with(`{`+route+`}`, ""), "0 records"},
		{"record of nothing", with(route, ""), "neither a script nor a route nor a sysctl, or several"},
		{"null", with(`{`+route+`}`, "null"), "neither a script nor a route nor a sysctl, or several"},
		{"both", with(route, route+`,"script":{"path":"/a"}`), "neither a script nor a route nor a sysctl, or several"},
		{"sysctl", with(route, `"sysctl":{"path":"net/ipv6/conf/all/forwarding","was":0,"set":1,"keep":["net/ipv6/conf/eth0.5/forwarding"]}`), ""},
		{"sysctl of nothing", with(route, `"sysctl":{}`), `sysctl record: path ""`},
		{"sysctl elsewhere", with(route, `"sysctl":{"path":"kernel/panic","was":0,"set":1}`), `sysctl record: path "kernel/panic"`},
		{"sysctl upwards", with(route, `"sysctl":{"path":"net/../kernel/panic","was":0,"set":1}`), "kernel/panic"},
		{"sysctl out of the tree", with(route, `"sysctl":{"path":"net/../../../etc/passwd","was":0,"set":1}`), "passwd"},
		{"sysctl, absolute to keep", with(route, `"sysctl":{"path":"net/a","keep":["/etc/passwd"]}`), `path "/etc/passwd"`},
		{"sysctl, no number", with(route, `"sysctl":{"path":"net/a","was":"0"}`), "cannot unmarshal"},
		{"script of nothing", with(route, `"script":{}`), "neither a path nor a command, or both"},
		{"relative script", with(route, `"script":{"path":"a.sh"}`), `path "a.sh" is not absolute`},
		{"relative directory", with(route, `"script":{"path":"/a","dir":"b"}`), `directory "b" is not absolute`},
		{"negative timeout", with(route, `"script":{"path":"/a","timeout_ns":-1}`), "timeout -1ns"},
		{"zero byte", with(route, `"script":{"command":"a\u0000b"}`), "has a zero byte"},
		{"long command", with(route, `"script":{"command":"`+strings.Repeat("a", maxText+1)+`"}`), "too long"},
		{"other variable", with(route, `"script":{"path":"/a","variables":[{"name":"PATH","value":"/tmp"}]}`), `script variable "PATH": unknown`},
		{"bad value", with(route, `"script":{"path":"/a","variables":[{"name":"TSP_VERBOSE","value":"$(reboot)"}]}`), `"$(reboot)" is not 0 to 3`},
		{"type of route", with(`"unreachable"`, `"unicast"`), `type "unicast"`},
		{"default route", with("2001:db8::/48", "::/0"), "prefix ::/0"},
		{"IPv4 route", with("2001:db8::/48", "192.0.2.0/24"), "prefix 192.0.2.0/24"},
		{"host bits", with("2001:db8::/48", "2001:db8::1/48"), "prefix 2001:db8::1/48"},
		{"no prefix", with("2001:db8::/48", ""), "prefix invalid Prefix"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse([]byte(tt.text))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestNotUnderstood: the message names the file and says what to do, and the file stays.
func TestNotUnderstood(t *testing.T) {
	for name, text := range map[string]string{"corrupt": sample[:50], "large": strings.Repeat(" ", maxSize+1)} {
		path := filepath.Join(t.TempDir(), "six0.state")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, openErr := Open(path)
		_, leftErr := Leftover(path)
		for _, err := range []error{openErr, leftErr} {
			if err == nil || !strings.HasPrefix(err.Error(), "state file "+path+": ") {
				t.Errorf("%s: %v, want an error that names the file", name, err)
			}
		}
		if name == "corrupt" && !strings.HasSuffix(openErr.Error(), "unexpected EOF (look into it, undo by hand what it tells of, and delete it)") {
			t.Errorf("%v does not say what to do", openErr)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != text {
			t.Errorf("%s: the file has changed: %v", name, err)
		}
	}
}

// TestAddRefuses what could not be read back.
func TestAddRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "six0.state")
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tt := range []struct {
		name   string
		record Record
		want   string
	}{
		{"nothing", Record{}, "neither a script nor a route"},
		{"not UTF-8", Record{Script: &Script{Path: "/a\xff"}}, "no UTF-8"},
		{"variable", Record{Script: &Script{Path: "/a", Variables: []hook.Variable{{Name: "A", Value: "b"}}}}, "unknown"},
		{"route", Record{Route: &Route{Prefix: netip.MustParsePrefix("2001:db8::/48")}}, `type ""`},
	} {
		if _, err := f.Add(tt.record); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("something was written")
	}
}

// FuzzParse: what is understood means the same when it is written again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(strings.Replace(sample, `"route":{"prefix":"2001:db8::/48","type":"unreachable"}`,
		`"script":{"command":"true","dir":"/","variables":[{"name":"TSP_HOME_DIR","value":"/a b"}],"timeout_ns":1}`, 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		d, err := parse(again)
		if err != nil {
			t.Fatalf("%v\n%s", err, again)
		}
		if again2, err := json.Marshal(d); err != nil || !reflect.DeepEqual(again, again2) {
			t.Fatalf("%v\n%s\n%s", err, again, again2)
		}
	})
}
