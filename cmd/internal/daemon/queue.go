package daemon

import "net"

// crowdQueue is how much may wait in the socket for datagrams, in bytes. When a broker
// comes back, all its clients do so at once: at some 800 bytes each in the kernel, that
// is 20 000 of them.
const crowdQueue = 16 << 20

// growQueue makes the queue of a socket as large as the system lets it.
func growQueue(c net.PacketConn) {
	u, ok := c.(*net.UDPConn)
	if ok && !forceQueue(u, crowdQueue) {
		_ = u.SetReadBuffer(crowdQueue) // else it stays as it is: clients ask again
	}
}
