package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"sixin4/cmd/internal/config"
	"sixin4/tsp"
	"sixin4/tun/ifcfg"
)

// usualFiles are read without -f, whichever comes first in the working directory.
var usualFiles = []string{"tspc.conf", "gogoc.conf"}

// settings are the configuration file together with the command line.
type settings struct {
	config.Connect
	logs config.OldLog
	home string // if_prefix, of a host too
}

// load reads the configuration file and puts the options over it. Its errors are a
// failure.
func load(o options, password config.Secret) (settings, error) {
	set, err := readSettings(o, password)
	if err != nil {
		return set, failure{statusConfiguration, err}
	}
	if o.retry != 0 {
		set.RetryDelay = o.retry
		set.RetryMax = max(set.RetryMax, o.retry)
	}
	if set.Once {
		set.Once = false
		set.Warnings = append(set.Warnings, "once has no meaning for tspc: see sixin4 connect --once")
	}
	return set, checkLastServer(set.Connect)
}

func readSettings(o options, password config.Secret) (set settings, err error) {
	path, err := findFile(o.file)
	if err != nil {
		return set, err
	}
	file, err := config.ReadConnect(path)
	if err != nil {
		return set, err
	}
	raw := make(config.Raw)
	warnings, err := override(raw, file, o)
	if err != nil {
		return set, err
	}
	raw.Merge(file.Raw)
	if set.Connect, err = config.CheckConnect(raw, password); err != nil {
		return set, err
	}
	set.Warnings = append(append(warnings, file.Warnings...), set.Warnings...)
	set.logs = config.OldLog{Stderr: 1}
	if file.Legacy != nil {
		set.logs, set.home = file.Legacy.Log, file.Legacy.HomeInterface
	}
	return set, nil
}

func findFile(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	for _, name := range usualFiles {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			return name, nil // whatever else is wrong with it, the reader says
		}
	}
	return "", fmt.Errorf("no configuration file: there is neither %s here (-f FILE names another)",
		strings.Join(usualFiles, " nor "))
}

// override puts into raw what the options say. In messages its origin is the option.
func override(raw config.Raw, file config.ConnectFile, o options) (warnings []string, err error) {
	set := func(key config.Key, option, text string) {
		raw[key] = []config.Value{{Text: text, Origin: config.Origin{File: option}}}
	}
	name, option := o.iface, "-i"
	if overUDP(file) {
		name, option = o.udpIface, "-u"
	}
	if name != "" {
		set(config.Name, option, name)
	}
	if o.source == "" {
		return nil, nil
	}
	switch what, err := sourceKey(o.source); {
	case err != nil:
		return nil, err
	case what == config.LAN && file.Legacy != nil && file.Legacy.HostType == "host":
		return []string{"-s " + o.source + " has no meaning for host_type=host: a host has no LAN"}, nil
	default:
		set(what, "-s", o.source)
	}
	return nil, nil
}

// overUDP reports whether the tunnel is to be of the kind that -u names.
func overUDP(file config.ConnectFile) bool {
	modes := file.Raw[config.Mode]
	return len(modes) > 0 && modes[len(modes)-1].Text == string(tsp.V6UDPV4)
}

// sourceKey tells the two meanings of -s apart: gogoCLIENT's is the IPv4 address to
// tell the broker, that of the tspc before it the interface of the LAN.
func sourceKey(text string) (config.Key, error) {
	if _, err := netip.ParseAddr(text); err == nil || text == "auto" {
		return config.Local, nil
	}
	if err := ifcfg.CheckName(text); err != nil {
		return "", fmt.Errorf("-s %q: neither an IPv4 address of this host nor an interface of its LAN: %w", text, err)
	}
	return config.LAN, nil
}

// checkLastServer looks whether the file of the last server can be read when nothing
// but what it says may be used.
func checkLastServer(c config.Connect) error {
	if !c.AlwaysSame {
		return nil
	}
	f, err := os.Open(c.LastServer)
	if err == nil {
		_, err = f.Read(make([]byte, 1))
		f.Close()
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrNotExist) { // there may have been no server yet
		return nil
	}
	return failure{statusLastServer, fmt.Errorf("last_server: %w", err)}
}
