package daemon

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// memory keeps in two files, one broker a line, which broker served last and which
// others there were: the files of the configuration's last_server and broker_list.
// An empty path remembers nothing.
type memory struct{ last, list string }

// maxRemembered bounds a file that is read, in bytes; 50 of the longest names fit.
const maxRemembered = 16 << 10

// Last returns the broker that served last.
func (m memory) Last() (string, bool) {
	lines := readLines(m.last)
	if len(lines) == 0 {
		return "", false
	}
	return lines[0], true
}

// SetLast remembers the broker that serves.
func (m memory) SetLast(server string) error { return writeLines(m.last, []string{server}) }

// List returns the brokers that a redirection named.
func (m memory) List() []string { return readLines(m.list) }

// SetList remembers them.
func (m memory) SetList(servers []string) error { return writeLines(m.list, servers) }

func readLines(path string) (lines []string) {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil // nothing was remembered yet
	}
	defer f.Close()
	for s := bufio.NewScanner(io.LimitReader(f, maxRemembered)); s.Scan(); {
		if line := strings.TrimSpace(s.Text()); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// writeLines replaces a file as a whole, so that it is never half written.
func writeLines(path string, lines []string) error {
	if path == "" {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, strings.Join(lines, "\n")+"\n")
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
