package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sixin4/tsp"
)

// templates are the scripts that programs of old came with. Only these names are
// taken, so that none leads out of the directory.
var templates = []string{
	"linux", "freebsd", "netbsd", "openbsd", "darwin", "windows", "cisco", "sunos", "openwrt", "gogocpe",
}

// ourTemplate is the one whose work we do ourselves where there is no script.
const ourTemplate = "linux"

func (f *oldFile) convertServer() error {
	text := f.values["server"].text
	if text == "" {
		return nil // CheckConnect knows whether the command line has one
	}
	if _, err := ParseServer(text); err != nil {
		return f.invalid("server", err.Error())
	}
	f.set(Servers, "server", text)
	return nil
}

// convertLogin hands on a method in any case, so that CheckConnect can tell the
// meaning of `any` in old files from ours.
func (f *oldFile) convertLogin() error {
	method := f.word("auth_method", AuthAny)
	if _, err := parseAuth(method); err != nil {
		return f.invalid("auth_method", err.Error())
	}
	v := f.value("auth_method")
	v.Text, v.old.text = method, method
	f.raw[Auth] = []Value{v}
	if user := f.values["userid"].text; user != "" {
		if !isPrintable(user) || len(user) > maxUser {
			return f.invalid("userid", fmt.Sprintf("not up to %d printable characters of ASCII", maxUser))
		}
		f.set(User, "userid", user)
	}
	return f.convertPassword()
}

// convertPassword keeps the password out of every text.
func (f *oldFile) convertPassword() error {
	at := f.values["passwd"]
	if at.text == "" {
		return nil
	}
	v := Value{Origin: Origin{f.path, at.line}, old: &oldValue{key: "passwd", secret: NewSecret(at.text)}}
	if !isPrintable(at.text) || len(at.text) > maxPassword {
		return invalid(oldPassword, v, fmt.Sprintf("not up to %d printable characters of ASCII", maxPassword))
	}
	f.raw[oldPassword] = []Value{v}
	return nil
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func (f *oldFile) convertMode() error {
	mode := f.word("tunnel_mode", string(tsp.V6AnyV4))
	if _, err := parseMode(mode); err != nil {
		return f.invalid("tunnel_mode", err.Error())
	}
	f.set(Mode, "tunnel_mode", mode)
	return nil
}

// convertInterfaces follows convertMode: there is one name for each kind of tunnel.
func (f *oldFile) convertInterfaces() error {
	for _, name := range []struct {
		key string
		to  *string
	}{
		{"if_tunnel_v6v4", &f.legacy.InterfaceV6V4},
		{"if_tunnel_v6udpv4", &f.legacy.InterfaceUDP},
		{"if_prefix", &f.legacy.HomeInterface},
	} {
		*name.to = f.values[name.key].text
		if *name.to == "" {
			continue
		}
		if err := checkName(*name.to); err != nil {
			return f.invalid(name.key, err.Error())
		}
	}
	mode, _ := f.raw.last(Mode)
	switch {
	case mode.Text == string(tsp.V6UDPV4) && f.legacy.InterfaceUDP != "":
		f.set(Name, "if_tunnel_v6udpv4", f.legacy.InterfaceUDP)
	case mode.Text != string(tsp.V6UDPV4) && f.legacy.InterfaceV6V4 != "":
		f.set(Name, "if_tunnel_v6v4", f.legacy.InterfaceV6V4)
	}
	return nil
}

// convertRouter hands on what only a router asks for only for a router: in files of
// hosts the keys stand too, with the values of the sample.
func (f *oldFile) convertRouter() (err error) {
	if f.legacy.HostType, err = f.choice("host_type", "host", "router"); err != nil {
		return err
	}
	f.legacy.PrefixLength, err = f.number("prefixlen", 64, 0, 128, "1 to 128, usually 48 to 64, or 0 for what the account has")
	if err != nil || f.legacy.HostType == "host" {
		return err
	}
	f.set(Router, "host_type", "true")
	if f.legacy.PrefixLength > 0 {
		f.set(PrefixLength, "prefixlen", fmt.Sprint(f.legacy.PrefixLength))
	}
	if f.legacy.HomeInterface != "" {
		f.set(LAN, "if_prefix", f.legacy.HomeInterface)
	}
	return f.convertReverse()
}

func (f *oldFile) convertReverse() error {
	text := f.values["dns_server"].text
	if text == "" {
		return nil
	}
	names := strings.Split(text, ":")
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
		if _, err := parseNameServer(names[i]); err != nil || len(names) > maxNameServers {
			return f.invalid("dns_server", fmt.Sprintf("not up to %d names of name servers with : between, like ns1.example.net:ns2.example.net", maxNameServers))
		}
	}
	f.set(ReverseDNS, "dns_server", names...)
	return nil
}

func (f *oldFile) convertProxy() error {
	proxy, err := f.yesNo("proxy_client", false)
	if err != nil {
		return err
	}
	if proxy {
		f.set(Proxy, "proxy_client", "true")
	}
	local := f.word("client_v4", auto)
	if _, err := parseLocal(local); err != nil {
		return f.invalid("client_v4", err.Error())
	}
	f.set(Local, "client_v4", local)
	return nil
}

func (f *oldFile) convertKeepalive() error {
	keep, err := f.yesNo("keepalive", true)
	if err != nil {
		return err
	}
	seconds := 0
	if keep {
		most := int(tsp.MaxKeepalive.Seconds())
		right := fmt.Sprintf("1 to %d seconds; keepalive=no is none", most)
		if seconds, err = f.number("keepalive_interval", 30, 1, most, right); err != nil {
			return err
		}
	}
	v := f.value("keepalive")
	v.Text = fmt.Sprint(seconds)
	if v.old.text == "" {
		v.old.text = "yes"
	}
	f.raw[Keepalive] = []Value{v}
	return nil
}

// convertRetry takes a delay of 0 for the shortest, 1 s: no broker shall be asked
// without a pause.
func (f *oldFile) convertRetry() error {
	for _, delay := range []struct {
		old string
		key Key
	}{{"retry_delay", RetryDelay}, {"retry_delay_max", RetryMax}} {
		seconds, err := f.number(delay.old, -1, 0, 3600, "0 to 3600 seconds")
		if err != nil {
			return err
		}
		if seconds >= 0 {
			f.set(delay.key, delay.old, fmt.Sprint(max(1, seconds)))
		}
	}
	return nil
}

// convertDir takes the directory under any of its three names.
func (f *oldFile) convertDir() error {
	key := slices.MaxFunc([]string{"gogoc_dir", "gw6c_dir", "tsp_dir"}, func(a, b string) int {
		return f.values[a].line - f.values[b].line
	})
	f.legacy.Dir = f.absolute(key, ".")
	f.set(HomeDir, key, f.legacy.Dir)
	if f.values[key].text == "" {
		return nil
	}
	info, err := os.Stat(f.legacy.Dir)
	switch {
	case err != nil:
		f.warn(f.values[key].line, "%s = %q: %v; no script is looked for there", key, f.values[key].text, withoutPath(err))
	case !info.IsDir():
		return f.invalid(key, "not a directory")
	}
	return nil
}

func (f *oldFile) convertFiles() error {
	f.set(BrokerList, "broker_list", f.absolute("broker_list", "tsp-broker-list.txt"))
	f.set(LastServer, "last_server", f.absolute("last_server", "tsp-last-server.txt"))
	same, err := f.yesNo("always_use_same_server", false)
	if same {
		f.set(AlwaysSame, "always_use_same_server", "true")
	}
	return err
}

// convertTemplate follows convertDir. With no template named we set up the tunnel
// ourselves.
func (f *oldFile) convertTemplate() error {
	name, err := f.choice("template", templates...)
	if err != nil {
		return err
	}
	f.legacy.Template = name
	if f.values["template"].text == "" {
		return nil
	}
	path := filepath.Join(f.legacy.Dir, "template", name+".sh")
	_, err = parseScript(path)
	switch {
	case err == nil:
		f.set(Script, "template", path)
	case !isMissing(path):
		return f.invalid("template", fmt.Sprintf("%s: %v", path, err))
	case name != ourTemplate:
		return f.invalid("template", fmt.Sprintf("there is no script %s; template=%s needs none", path, ourTemplate))
	}
	return nil
}

// isMissing reports whether there is nothing by that name.
func isMissing(path string) bool {
	_, err := os.Lstat(path)
	return os.IsNotExist(err)
}

func (f *oldFile) convertLog() error {
	log := &f.legacy.Log
	for _, to := range []struct {
		key       string
		level     *int
		byDefault int
	}{
		{"log_console", &log.Console, 0}, {"log_stderr", &log.Stderr, 1},
		{"log_file", &log.File, 0}, {"log_syslog", &log.Syslog, 0},
	} {
		byDefault := to.byDefault
		if _, given := f.values[to.key]; given {
			byDefault = 1 // the meaning of an empty level
		}
		var err error
		if *to.level, err = f.number(to.key, byDefault, 0, 3, "0 (nothing) to 3"); err != nil {
			return err
		}
	}
	log.Filename = f.absolute("log_filename", "gogoc.log")
	facility, err := f.choice("syslog_facility",
		"user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7")
	log.Facility = strings.ToUpper(facility)
	return err
}
