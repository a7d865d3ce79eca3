package ifcfg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// conf is the file of one of the interface's IPv6 parameters. Like netlink, it
// shows the network namespace of the calling thread.
func (i *Interface) conf(key string) (path string, err error) {
	now, err := i.attrs() // the name may have changed, the index has not
	if err != nil {
		return "", err
	}
	return filepath.Join("/proc/sys/net/ipv6/conf", now.Name, key), nil
}

// readConf reads one parameter. An interface without IPv6 has none.
func (i *Interface) readConf(key string) (int, error) {
	path, err := i.conf(key)
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, i.explainNoIPv6(unix.EAFNOSUPPORT)
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// writeConf opens without O_CREATE, so that a missing parameter is ErrNotExist.
func (i *Interface) writeConf(key string, value int) error {
	path, err := i.conf(key)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(strconv.Itoa(value))
	return errors.Join(err, file.Close())
}

// addrGenMode reads how the kernel makes the interface's link-local address.
func (i *Interface) addrGenMode() (int, error) { return i.readConf("addr_gen_mode") }

func (i *Interface) enableIPv6() (Undo, error) {
	op := "enable IPv6 on " + i.Name
	off, err := i.readConf("disable_ipv6")
	if err == nil && off == 0 {
		return nothing, nil
	}
	if err == nil {
		err = i.writeConf("disable_ipv6", 0)
		if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
			err = i.disabled(err)
		}
	}
	if err != nil {
		return nil, explain(op, err)
	}
	return i.undo("disable IPv6 on", func() error { return i.writeConf("disable_ipv6", off) }), nil
}

// disabled adds what turns IPv6 on to an error that comes of it being off.
func (i *Interface) disabled(err error) error {
	const parameter = "net.ipv6.conf.all.disable_ipv6=0"
	return fmt.Errorf("%w: IPv6 is disabled on %s: sysctl %s (docker run --sysctl %s)", err, i.Name, parameter, parameter)
}

// noAutoConfig stops at the first parameter that cannot be written, with those
// before it restored.
func (i *Interface) noAutoConfig() (Undo, error) {
	var undo Stack
	for _, key := range []string{"accept_ra", "autoconf", "accept_redirects"} {
		old, err := i.readConf(key)
		if err == nil && old != 0 {
			err = i.writeConf(key, 0)
			undo.Push(func() error { return i.writeConf(key, old) })
		}
		if err != nil {
			return nil, errors.Join(explain("turn off "+key+" of "+i.Name, err), undo.Undo())
		}
	}
	return i.undo("restore router advertisements of", undo.Undo), nil
}
