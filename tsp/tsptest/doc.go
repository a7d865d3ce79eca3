// Package tsptest is a broker of the Tunnel Setup Protocol (RFC 5572) for tests. It
// answers as a good one does, refuses, sends its clients elsewhere, or misbehaves in
// any of many ways, each of them a [Fault] with a name. It notes what it was asked,
// for the assertions of a test, and lets a test wait for that without sleeping.
//
// It serves any net.Listener and any net.PacketConn: sockets of a namespace or of
// the loopback interface, and those of [Net], a network that is a value in memory, so
// that a whole session takes no time under testing/synctest.
//
// It carries no packets: beside it a test puts what answers on the tunnel. The text
// of RFC 5572 could not be consulted; package tsp says what is relied on.
package tsptest
