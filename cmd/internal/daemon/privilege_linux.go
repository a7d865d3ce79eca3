package daemon

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"sixin4/cmd/internal/exit"
)

// needed are the capabilities of a tunnel (capabilities(7)): the TUN interface
// with its addresses and routes, and the raw socket.
var needed = []struct {
	bit  uint
	name string
}{
	{unix.CAP_NET_ADMIN, "NET_ADMIN"},
	{unix.CAP_NET_RAW, "NET_RAW"},
}

// checkPrivileges names all capabilities that are missing at once, before
// anything is changed. A tunnel that can only be one in UDP needs no raw socket.
func checkPrivileges(onlyUDP bool) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // 64 capabilities
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	var missing, add []string
	for _, n := range needed {
		if onlyUDP && n.bit == unix.CAP_NET_RAW {
			continue
		}
		if data[0].Effective&(1<<n.bit) == 0 {
			missing = append(missing, "CAP_"+n.name)
			add = append(add, "--cap-add "+n.name)
		}
	}
	if missing == nil {
		return nil
	}
	verb := "is"
	if len(missing) > 1 {
		verb = "are"
	}
	return exit.With(exit.Permission, errors.New("no permission to make a tunnel: "+
		strings.Join(missing, " and ")+" "+verb+" missing (run as root, or the container with "+
		strings.Join(add, " ")+")"))
}
