package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/exit"
	"sixin4/tun/ifcfg"
)

// writeOld makes an old file with the given lines in a directory of its own. What
// a test of one key does not care about stands in front, so that the lines begin
// at number 5.
func writeOld(t *testing.T, lines string) string {
	t.Helper()
	return writeConf(t, "server=192.0.2.1\nuserid=alice\npasswd=sesame\n\n"+lines)
}

func writeConf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tspc.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// readOld reads an old file to the end. FILE and DIR stand for its place in errors
// and warnings.
func readOld(path string) (Connect, ConnectFile, error) {
	file, err := ReadConnect(path)
	if err != nil {
		return Connect{}, file, placeless(path, err)
	}
	c, err := CheckConnect(file.Raw, Secret{})
	for i, w := range file.Warnings {
		file.Warnings[i] = placeless(path, fmt.Errorf("%s", w)).Error()
	}
	return c, file, placeless(path, err)
}

func placeless(path string, err error) error {
	if err == nil {
		return nil
	}
	text := strings.ReplaceAll(err.Error(), path, "FILE")
	return exit.With(exit.Code(err), fmt.Errorf("%s", strings.ReplaceAll(text, filepath.Dir(path), "DIR")))
}

const (
	wantPrintable = "printable characters of ASCII"
	wantTemplates = "not one of its values; linux, freebsd, netbsd, openbsd, darwin, windows, cisco, sunos, openwrt or gogocpe"
	wantServers   = "not up to 8 names of name servers with : between, like ns1.example.net:ns2.example.net"
	wantLevel     = "0 (nothing) to 3"
)

func TestBadOld(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct{ name, lines, want string }{
		{"server", "server=2001:db8::1", `FILE:5: server = "2001:db8::1": an IPv6 address stands in brackets: [2001:db8::1]`},
		{"server too long", "server=" + long(1026), `FILE:5: server = "` + long(mostShown) + `"...: 1026 characters long; at most 1025`},
		{"server with a comment", "server=192.0.2.1 # ours", `FILE:5: server = "192.0.2.1 # ours": not a host name, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1] (a comment needs a line of its own)`},
		{"userid", "userid=j\u00fcrgen", `FILE:5: userid = "jürgen": not up to 253 ` + wantPrintable},
		{"userid too long", "userid=" + long(254), `FILE:5: userid = "` + long(mostShown) + `"...: not up to 253 ` + wantPrintable},
		{"passwd", "passwd=gehe\u00fcm", `FILE:5: passwd: not up to 128 ` + wantPrintable},
		{"passwd too long", "passwd=" + long(129), `FILE:5: passwd: not up to 128 ` + wantPrintable},
		{"auth_method", "auth_method=cram-md5", `FILE:5: auth_method = "cram-md5": no such authentication; any, anonymous, plain, digest-md5 or scram-sha-256`},
		{"auth_method of old", "auth_method=passdss-3des-1", `FILE:5: auth_method = "passdss-3des-1": not supported; digest-md5, or any for the best that the broker has`},
		{"nobody, any", "userid=\npasswd=\nauth_method=any", `FILE:7: auth_method = "any": needs userid and passwd; without an account set auth_method=anonymous`},
		{"nobody, nothing said", "userid=\npasswd=", `FILE: auth_method = "any": needs userid and passwd; without an account set auth_method=anonymous`},
		{"nobody, plain", "userid=\npasswd=\nauth_method=plain", `FILE:7: auth_method = "plain": needs userid and passwd; without an account set auth_method=anonymous`},
		{"passwd of nobody", "userid=", `FILE:3: passwd: there is a password, but no user; set userid`},
		{"no passwd", "passwd=", `FILE:2: userid = "alice": there is no password; set passwd, or SIXIN4_PASSWORD`},
		{"tunnel_mode v4v6", "tunnel_mode=v4v6", `FILE:5: tunnel_mode = "v4v6": not supported: sixin4 carries IPv6; v6anyv4, v6v4 or v6udpv4`},
		{"tunnel_mode dslite", "tunnel_mode=dslite", `FILE:5: tunnel_mode = "dslite": not supported: sixin4 carries IPv6; v6anyv4, v6v4 or v6udpv4`},
		{"tunnel_mode", "tunnel_mode=6in4", `FILE:5: tunnel_mode = "6in4": no such mode; v6anyv4, v6v4 or v6udpv4`},
		{"if_tunnel_v6v4", "if_tunnel_v6v4=a/b", `FILE:5: if_tunnel_v6v4 = "a/b": ` + ifcfg.CheckName("a/b").Error()},
		{"if_tunnel_v6udpv4", "if_tunnel_v6udpv4=sixteen-letters-", `FILE:5: if_tunnel_v6udpv4 = "sixteen-letters-": ` + ifcfg.CheckName("sixteen-letters-").Error()},
		{"if_prefix", "if_prefix=eth 1", `FILE:5: if_prefix = "eth 1": ` + ifcfg.CheckName("eth 1").Error()},
		{"host_type", "host_type=bridge", `FILE:5: host_type = "bridge": not one of its values; host or router`},
		{"router without if_prefix", "host_type=router", `FILE:5: host_type = "router": a router needs if_prefix, its interface to the LAN`},
		{"prefixlen", "prefixlen=129", `FILE:5: prefixlen = "129": out of range; 1 to 128, usually 48 to 64, or 0 for what the account has`},
		{"prefixlen word", "prefixlen=/48", `FILE:5: prefixlen = "/48": not a number; 1 to 128, usually 48 to 64, or 0 for what the account has`},
		{"dns_server address", "host_type=router\nif_prefix=eth1\ndns_server=192.0.2.53", `FILE:7: dns_server = "192.0.2.53": ` + wantServers},
		{"dns_server too many", "host_type=router\nif_prefix=eth1\ndns_server=a:b:c:d:e:f:g:h:i", `FILE:7: dns_server = "a:b:c:d:e:f:g:h:i": ` + wantServers},
		{"dns_server twice", "host_type=router\nif_prefix=eth1\ndns_server=a:a", `FILE:7: dns_server = "a:a": given twice`},
		{"proxy_client", "proxy_client=true", `FILE:5: proxy_client = "true": neither yes nor no`},
		{"proxy with keepalive", "proxy_client=yes\nkeepalive=yes", `FILE:6: keepalive = "yes": the tunnel of a proxy ends at another host, so nothing here can keep it alive; keepalive=no`},
		{"proxy with keepalive unsaid", "proxy_client=yes", `FILE: keepalive = "yes": the tunnel of a proxy ends at another host, so nothing here can keep it alive; keepalive=no`},
		{"proxy with v6udpv4", "proxy_client=yes\nkeepalive=no\ntunnel_mode=v6udpv4", `FILE:5: proxy_client = "yes": not with mode v6udpv4, whose tunnel ends where it is negotiated; v6v4 or v6anyv4`},
		{"client_v4", "client_v4=2001:db8::1", `FILE:5: client_v4 = "2001:db8::1": an IPv6 address; the local end of the tunnel is an IPv4 address, like 192.0.2.1 (or auto)`},
		{"keepalive", "keepalive=30", `FILE:5: keepalive = "30": neither yes nor no`},
		{"keepalive_interval", "keepalive_interval=0", `FILE:5: keepalive_interval = "0": out of range; 1 to 86400 seconds; keepalive=no is none`},
		{"keepalive_interval unit", "keepalive_interval=30s", `FILE:5: keepalive_interval = "30s": not a number; 1 to 86400 seconds; keepalive=no is none`},
		{"retry_delay", "retry_delay=3601", `FILE:5: retry_delay = "3601": out of range; 0 to 3600 seconds`},
		{"retry_delay_max", "retry_delay_max=-1", `FILE:5: retry_delay_max = "-1": out of range; 0 to 3600 seconds`},
		{"retry_delay over the longest", "retry_delay=60\nretry_delay_max=50", `FILE:5: retry_delay = "60": longer than retry_delay_max, which is 50s`},
		{"gogoc_dir a file", "gogoc_dir=tspc.conf", `FILE:5: gogoc_dir = "tspc.conf": not a directory`},
		{"gogoc_dir with a tab", "gogoc_dir=a\tb", `FILE:5: gogoc_dir = "a\tb": has a control character in it`},
		{"always_use_same_server", "always_use_same_server=1", `FILE:5: always_use_same_server = "1": neither yes nor no`},
		{"template", "template=../../bin/sh", `FILE:5: template = "../../bin/sh": ` + wantTemplates},
		{"template with suffix", "template=linux.sh", `FILE:5: template = "linux.sh": ` + wantTemplates},
		{"template without script", "template=openwrt", `FILE:5: template = "openwrt": there is no script DIR/template/openwrt.sh; template=linux needs none`},
		{"log_console", "log_console=4", `FILE:5: log_console = "4": out of range; ` + wantLevel},
		{"log_stderr", "log_stderr=all", `FILE:5: log_stderr = "all": not a number; ` + wantLevel},
		{"log_file", "log_file=-1", `FILE:5: log_file = "-1": out of range; ` + wantLevel},
		{"log_syslog", "log_syslog=yes", `FILE:5: log_syslog = "yes": not a number; ` + wantLevel},
		{"syslog_facility", "syslog_facility=LOCAL8", `FILE:5: syslog_facility = "LOCAL8": not one of its values; user, local0, local1, local2, local3, local4, local5, local6 or local7`},
		{"line too long", "#" + long(2047), "FILE:5: a line of 2048 characters; at most 2047"},
		{"zero byte", "\n# a\x00b", "FILE:6: a zero byte; this is no text file"},
		{"Latin-1", "#\n\n# f\xfcr", "FILE:7: not UTF-8; save the file as UTF-8 or ASCII"},
		{"control character", "log_filename=a\x1b[31mb", "FILE:5: a control character in the line"},
		{"carriage return within", "keepalive=no\rproxy_client=yes", "FILE:5: a control character in the line"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := readOld(writeOld(t, tt.lines+"\n"))
			wantError(t, err, tt.want, exit.Config)
		})
	}
}

func TestOldWithoutServer(t *testing.T) {
	_, _, err := readOld(writeConf(t, "userid=alice\npasswd=sesame\nserver=\n"))
	wantError(t, err, "FILE: no broker: set server, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]", exit.Config)
}

func TestOldTooLarge(t *testing.T) {
	_, err := ReadConnect(writeConf(t, strings.Repeat("# to be long\n", maxFile/13+1)))
	if err == nil || !strings.HasSuffix(err.Error(), "tspc.conf: larger than 1048576 bytes") || exit.Code(err) != exit.Config {
		t.Errorf("ReadConnect: %v (%d)", err, exit.Code(err))
	}
}

func TestReadConnectMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.conf")
	_, err := ReadConnect(path)
	wantError(t, err, "open "+path+": no such file or directory", exit.Config)
}

// TestOldWarnings also shows that no warning has a password in it.
func TestOldWarnings(t *testing.T) {
	tests := []struct {
		name, lines string
		want        []string
	}{
		{"nothing", "keepalive=no\n # a comment = indented\n", nil},
		{"unknown", "keep_alive=no", []string{`FILE:5: unknown key "keep_alive" ignored; the nearest known key is "keepalive"`}},
		{"other case", "Keepalive=no", []string{`FILE:5: unknown key "Keepalive" ignored; the nearest known key is "keepalive"`}},
		{"unknown and near nothing", "answer=42", []string{`FILE:5: unknown key "answer" ignored`}},
		{"no assignment", "keepalive no\n= no", []string{"FILE:5: ignored, as it is no key=value", "FILE:6: ignored, as it is no key=value"}},
		{"a password in the key", "passwd sesame=x", []string{"FILE:5: ignored, as it is no key=value"}},
		{"no meaning", "client_v6=auto\nhap6_web_enabled=no\nlog_rotation=yes\nclient_v6=::1\nsyslog_level=1\nsyslog=yes\nsyslog_facility=USER",
			[]string{"FILE: these keys have no meaning here: client_v6, hap6_web_enabled, log_rotation, syslog, syslog_level"}},
		{"no such directory", "tsp_dir=/nonexistent/tsp\ntemplate=linux",
			[]string{`FILE:5: tsp_dir = "/nonexistent/tsp": no such file or directory; no script is looked for there`}},
		{"many", strings.Repeat("?\n", 23), append(manyDoubts(5, 20), "FILE: 3 more lines are ignored; is this a configuration file of tspc?")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, file, err := readOld(writeOld(t, tt.lines+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(file.Warnings, tt.want) {
				t.Errorf("warnings:\n got %q\nwant %q", file.Warnings, tt.want)
			}
		})
	}
}

func manyDoubts(first, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("FILE:%d: ignored, as it is no key=value", first+i))
	}
	return all
}

func TestOldReadableByAll(t *testing.T) {
	const want = "FILE: holds a password, and everybody on this host can read or change it; chmod o-rw FILE"
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		want       []string
	}{
		{"password for all", "server=192.0.2.1\nuserid=alice\npasswd=sesame\n", 0o644, []string{want}},
		{"password for a group", "server=192.0.2.1\nuserid=alice\npasswd=sesame\n", 0o640, nil},
		{"no password", "server=192.0.2.1\nauth_method=anonymous\n", 0o644, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := writeConf(t, tt.text)
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, file, err := readOld(path)
			if err != nil || !reflect.DeepEqual(file.Warnings, tt.want) {
				t.Errorf("warnings %q, %v; want %q", file.Warnings, err, tt.want)
			}
		})
	}
}

// sectionTen is every key that programs of old are known to have.
const sectionTen = `userid passwd server auth_method host_type prefixlen if_prefix dns_server
	gogoc_dir tsp_dir gw6c_dir auto_retry_connect retry_delay retry_delay_max keepalive keepalive_interval
	tunnel_mode if_tunnel_v6v4 if_tunnel_v6udpv4 if_tunnel_v4v6 client_v4 client_v6 template proxy_client
	broker_list last_server always_use_same_server log_console log_stderr log_file log_syslog log_filename
	log_rotation log_rotation_size log_rotation_delete syslog_facility haccess_web_enabled haccess_proxy_enabled
	haccess_document_root hap6_web_enabled hap6_proxy_enabled hap6_document_root dslite_server dslite_client
	protocol routing_info syslog`

// TestOldKeys has a file for every key: one without a meaning is named, and none is
// unknown.
func TestOldKeys(t *testing.T) {
	idle := make(map[string]bool)
	for _, key := range strings.Fields(sectionTen) {
		_, file, err := readOld(writeOld(t, key+"=\n"))
		switch {
		case len(file.Warnings) == 0:
			continue
		case err != nil:
			t.Errorf("%s: %v", key, err)
		case !reflect.DeepEqual(file.Warnings, []string{"FILE: these keys have no meaning here: " + key}):
			t.Errorf("%s: %q", key, file.Warnings)
		}
		idle[key] = true
	}
	if len(idle) != 17 || !idle["protocol"] || !idle["hap6_web_enabled"] || idle["syslog_facility"] {
		t.Errorf("%d keys have no meaning: %v", len(idle), idle)
	}
}

// TestOldHonoured changes one value at a time: each of the other keys has to show in
// what comes out.
func TestOldHonoured(t *testing.T) {
	const base = "server=192.0.2.1\nuserid=alice\npasswd=sesame\nhost_type=router\nif_prefix=eth1\nlast_server=x\n"
	values := map[string]string{
		"userid": "bob", "passwd": "hatch", "server": "192.0.2.2", "auth_method": "plain",
		"host_type": "host", "prefixlen": "48", "if_prefix": "eth2", "dns_server": "ns1.example.net",
		"gogoc_dir": "..", "gw6c_dir": "..", "tsp_dir": "..", "template": "sunos",
		"retry_delay": "31", "retry_delay_max": "301", "keepalive": "no", "keepalive_interval": "31",
		"tunnel_mode": "v6v4", "if_tunnel_v6v4": "sit1", "if_tunnel_v6udpv4": "tun", "client_v4": "192.0.2.77", "proxy_client": "yes\nkeepalive=no",
		"broker_list": "y", "last_server": "y", "always_use_same_server": "yes",
		"log_console": "1", "log_stderr": "0", "log_file": "1", "log_syslog": "1", "log_filename": "y", "syslog_facility": "local1",
	}
	path := writeConf(t, base)
	if err := os.MkdirAll(filepath.Join(filepath.Dir(path), "template"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "template", "sunos.sh"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	result := func(lines string) any {
		if err := os.WriteFile(path, []byte(base+lines), 0o600); err != nil {
			t.Fatal(err)
		}
		c, file, err := readOld(path)
		if err != nil || len(file.Warnings) > 0 {
			t.Fatalf("%s: %v, warnings %q", lines, err, file.Warnings)
		}
		c.raw = nil
		return []any{c, *file.Legacy}
	}
	plain := result("")
	for _, key := range oldKeys {
		if reflect.DeepEqual(result(key+"="+values[key]+"\n"), plain) {
			t.Errorf("%s=%s makes no difference", key, values[key])
		}
	}
}

// TestOldTemplate is about who sets up the tunnel.
func TestOldTemplate(t *testing.T) {
	for _, tt := range []struct {
		name, lines string
		scripts     []string // below the directory of the file
		wantScript  string
		wantHome    string
	}{
		{"nothing said", "", []string{"template/linux.sh"}, "", "DIR"},
		{"linux without script", "template=linux", nil, "", "DIR"},
		{"linux with script", "template=linux", []string{"template/linux.sh"}, "DIR/template/linux.sh", "DIR"},
		{"other with script", "template=OpenWRT", []string{"template/linux.sh", "template/openwrt.sh"}, "DIR/template/openwrt.sh", "DIR"},
		{"script of another directory", "gw6c_dir=gw6c/\ntemplate=linux", []string{"template/linux.sh", "gw6c/template/linux.sh"}, "DIR/gw6c/template/linux.sh", "DIR/gw6c"},
		{"last directory counts", "tsp_dir=b\ngogoc_dir=a\ntemplate=linux", []string{"a/template/linux.sh", "b/template/linux.sh"}, "DIR/a/template/linux.sh", "DIR/a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := writeOld(t, tt.lines+"\n")
			dir := filepath.Dir(path)
			for _, s := range tt.scripts {
				s = filepath.Join(dir, s)
				if err := os.MkdirAll(filepath.Dir(s), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(s, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, file, err := readOld(path)
			if err != nil {
				t.Fatal(err)
			}
			script, home := strings.ReplaceAll(c.Script, dir, "DIR"), strings.ReplaceAll(c.HomeDir, dir, "DIR")
			if script != tt.wantScript || home != tt.wantHome || file.Legacy.Dir != c.HomeDir {
				t.Errorf("script %q, home %q (%s); want %q, %q", script, home, file.Legacy.Dir, tt.wantScript, tt.wantHome)
			}
		})
	}
}

func TestOldTemplateIsNoFile(t *testing.T) {
	path := writeOld(t, "template=linux\n")
	if err := os.MkdirAll(filepath.Join(filepath.Dir(path), "template", "linux.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, _, err := readOld(path)
	wantError(t, err, `FILE:5: template = "linux": DIR/template/linux.sh: not a regular file; a script for /bin/sh belongs here`, exit.Config)
}

// TestFlagsOverOld has flags that replace what an old file says, and errors that
// still name the file.
func TestFlagsOverOld(t *testing.T) {
	file, err := ReadConnect(writeConf(t, "server=192.0.2.1\nif_tunnel_v6v4=sit1\nretry_delay=0\nretry_delay_max=0\nhost_type=router\nprefixlen=0\n"))
	if err != nil {
		t.Fatal(err)
	}
	raw := flags("name", "six0", "server", "192.0.2.9:1", "auth", "anonymous", "lan", "eth7")
	raw.Merge(file.Raw)
	c, err := CheckConnect(raw, Secret{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		what      string
		got, want any
	}{
		{"name", c.Name, "six0"},
		{"servers", c.Servers, []Server{{"192.0.2.9", 1}}},
		{"auth", c.Auth, "anonymous"},
		{"lan", c.LAN, "eth7"},
		{"router", c.Router, true},
		{"prefix of the account", c.PrefixLength, 0},
		{"shortest delay", c.RetryDelay, time.Second},
		{"shortest longest delay", c.RetryMax, time.Second},
		{"what the file says stays known", file.Legacy.InterfaceV6V4, "sit1"},
	} {
		if !reflect.DeepEqual(x.got, x.want) {
			t.Errorf("%s: %v, want %v", x.what, x.got, x.want)
		}
	}
	err = c.Invalid(RetryMax, "is out of fashion")
	if !strings.HasSuffix(err.Error(), `tspc.conf:4: retry_delay_max = "0": is out of fashion`) {
		t.Errorf("Invalid: %v", err)
	}
}

func TestIsOld(t *testing.T) {
	for _, tt := range []struct {
		name, file, text string
		want             bool
	}{
		{"empty", "x", "", false},
		{"comments", "x", "# server=192.0.2.1\n\n", false},
		{"old", "x", "server=192.0.2.1\nuserid=alice\n", true},
		{"old with a BOM", "x", "\ufeffserver=192.0.2.1\r\n", true},
		{"old by its values", "x", "server=192.0.2.1\nkeepalive=yes\n", true},
		{"old with quotes", "x", "userid=\"alice\"\nserver=192.0.2.1\n", true},
		{"old with TOML values", "x", "prefixlen=64\nretry_delay=30\nlog_stderr=1\n", true},
		{"old, unknown keys first", "x", "[main]\nfoo = \"bar\"\nserver=192.0.2.1\nuserid=a\npasswd=b\nif_tunnel_v6v4=sit1\n", true},
		{"TOML", "x", "server = \"192.0.2.1\"\nauth = \"any\"\n", false},
		{"TOML, list", "x", "server = [\n  \"192.0.2.1\",\n]\n", false},
		{"TOML without quotes", "x", "server = 192.0.2.1\nuser = \"alice\"\nkeepalive = 30\n", false},
		{"TOML with a key of old", "x", "server = \"192.0.2.1\"\nuser = \"alice\"\nuserid = \"alice\"\n", false},
		{"TOML of up", "x", "remote = 198.51.100.1\n", false},
		{"TOML by name", "x.toml", "server=192.0.2.1\nuserid=alice\n", false},
		{"TOML by name in capitals", "X.TOML", "server=192.0.2.1\nuserid=alice\n", false},
		{"tie", "x", "userid=alice\nuser = \"alice\"\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := isOld(tt.file, []byte(tt.text)); got != tt.want {
				t.Errorf("isOld: %v, want %v", got, tt.want)
			}
		})
	}
}
