// Package e2e holds tests of the whole way of a packet: a socket, a real TUN
// device, the engine, a raw socket, a veth, and the same back, in network
// namespaces that the tests make themselves. The names of the tests follow the
// tables of docs/6in4.md where there is one. It has no code but tests.
package e2e
