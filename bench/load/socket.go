package load

import (
	"io"
	"net/netip"
)

// packets are the IPv4 packets of protocol 41, of all clients.
type packets interface {
	io.Closer
	// send sends whole IPv4 packets.
	send(all [][]byte) error
	// receive waits for packets and calls f for each, valid until it returns.
	receive(f func(packet []byte)) error
	// forge sends one IPv4 packet of any protocol.
	forge(packet []byte) error
}

// datagrams are those of one UDP port, of all clients.
type datagrams interface {
	io.Closer
	port() uint16
	// send sends a datagram to the broker from the address of a client.
	send(from netip.Addr, b []byte) error
	// receive waits for a datagram and says to which address it came.
	receive(b []byte) (n int, to netip.Addr, err error)
}

// batchSize is how many packets are sent or received by one system call.
const batchSize = 64
