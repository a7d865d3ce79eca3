package config

import (
	"fmt"
	"os"
	"path/filepath"

	"sixin4/cmd/internal/exit"
)

// ConnectFile is what a configuration file of `sixin4 connect` and tspc says.
type ConnectFile struct {
	Raw      Raw      // for Raw.Merge and CheckConnect
	Legacy   *Legacy  // what only an old file says; nil for TOML
	Warnings []string // one line each, with the file and, where there is one, the line
}

// Legacy is what an old configuration file says beyond Connect.
type Legacy struct {
	Dir           string // gogoc_dir, tsp_dir or gw6c_dir, absolute; by default that of the file
	Template      string // name without suffix; "linux" by default
	HostType      string // "host", the default, or "router"
	PrefixLength  int    // 0 to 128, 64 by default; 0 is what the account has
	HomeInterface string // if_prefix, of a host too; may be empty
	InterfaceV6V4 string // if_tunnel_v6v4; may be empty
	InterfaceUDP  string // if_tunnel_v6udpv4; may be empty
	Log           OldLog
}

// OldLog is where an old file wants the log. Levels are 0, nothing, to 3.
type OldLog struct {
	Console, Stderr, File, Syslog int    // levels; 0, 1, 0, 0 by default
	Filename                      string // absolute; gogoc.log by default
	Facility                      string // of syslog: USER, the default, or LOCAL0 to LOCAL7
}

// ReadConnect reads a configuration file of `sixin4 connect` or tspc, which is TOML
// with the names of the flags for keys, or a file of old: tspc.conf, gw6c.conf or
// gogoc.conf. Which of them it is the content says, see isOld. Its errors carry the
// exit status 78 and name file and line.
//
// In an old file the names of other files count from the directory that it is in,
// and that is also the directory of the program when no key names one; the programs
// of old took the directory they were started in.
func ReadConnect(path string) (ConnectFile, error) {
	data, err := readAll(path)
	if err != nil {
		return ConnectFile{}, exit.With(exit.Config, err)
	}
	if !isOld(path, data) {
		raw, err := parseFile(path, data, connectOrder)
		return ConnectFile{Raw: raw}, exit.With(exit.Config, err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return ConnectFile{}, exit.With(exit.Config, fmt.Errorf("%s: %w", path, err))
	}
	file, err := parseOld(path, dir, data)
	if info, failed := os.Stat(path); failed == nil && len(file.Raw[oldPassword]) > 0 && isOpen(info.Mode()) {
		file.Warnings = append(file.Warnings, openFile(path))
	}
	return file, exit.With(exit.Config, err)
}

// parseOld reads the old file that data is. Relative names count from dir.
func parseOld(path, dir string, data []byte) (ConnectFile, error) {
	f := oldFile{path: path, dir: dir, values: make(map[string]oldLine), raw: make(Raw)}
	if err := f.read(data); err != nil {
		return ConnectFile{}, err
	}
	for _, convert := range []func() error{
		f.convertServer, f.convertLogin, f.convertMode, f.convertInterfaces, f.convertRouter,
		f.convertProxy, f.convertKeepalive, f.convertRetry, f.convertDir, f.convertFiles,
		f.convertTemplate, f.convertLog,
	} {
		if err := convert(); err != nil {
			return ConnectFile{}, err
		}
	}
	return ConnectFile{Raw: f.raw, Legacy: &f.legacy, Warnings: f.warnings}, nil
}
