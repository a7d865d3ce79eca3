package netstack

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	// DefaultMemory is what the buffers of all TCP connections may grow to, in bytes: some
	// forty of DefaultBuffer both ways, or thousands of fewer bytes each.
	DefaultMemory = 1 << 30
	// startBuffer is what a connection begins with, and leastBuffer what it can have
	// however many there are, in bytes.
	startBuffer = 1 << 20
	leastBuffer = 64 << 10
)

// share sets what the buffers of a connection may grow to, so that those there are and
// more, all together, stay within the memory. It holds at once, but what a connection has
// under way already it keeps. Each connection that begins calls it.
func (d *Device) share(more int) error {
	d.sharing.Lock()
	defer d.sharing.Unlock()
	n := max(int(d.stack.Stats().TCP.CurrentConnected.Value())+more, 1)
	most := min(d.cfg.Buffer, max(d.cfg.Memory/2/n, leastBuffer))
	if most == d.most {
		return nil
	}
	start := min(most, startBuffer)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: start, Max: most}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: start, Max: most}
	for _, o := range []tcpip.SettableTransportProtocolOption{&receive, &send} {
		if err := d.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("netstack: set %T: %s", o, err)
		}
	}
	d.most = most
	return nil
}
