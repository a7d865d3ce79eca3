// Package client gets one tunnel from a broker by the Tunnel Setup Protocol (RFC 5572),
// and keeps it for as long as it runs: it finds a broker, negotiates, renews the lease,
// starts anew when this host's address changes or the far end falls silent, and waits
// between failures.
//
// It makes no system call of its own. The [Network] gives it connections and addresses,
// the [Path] is what carries the packets, the [Memory] what it remembers from one run to
// the next.
//
// # What is tried
//
// An attempt goes through the configured servers in their order, then, when none of
// them could be reached, through the list of the last redirection. With one broker it
// may take a minute, all in all five. On one broker it goes down the ladder of versions, each on a
// new connection, as some brokers keep what they know of an old one.
//
// Where both transports will do, UDP is tried first. TCP is tried at once when UDP is
// refused, and beside it when there was no answer for half a second; the first answer to
// the VERSION line decides. The client with the widest use waits for three datagrams, 6 s,
// before it does so: a network that drops UDP would cost every start that much, and the
// price of the early start is one connection that the broker sees open and close.
//
// # When it is tried again
//
//	a negotiation failed      RetryDelay three times, twice that three times, ... up to
//	                          RetryMax, each give or take 10 %
//	the far end is silent     at once; when the tunnel did not live for RetryDelay, only the
//	                          first time
//	the local address changes at once, within 1.5 s
//	any change of the network when what failed was to reach a broker: at once
//	the lease must be renewed after 3/4 of its lifetime, at least 10 s; when that fails,
//	                          as after any failure, while the tunnel runs on
//
// A lease is renewed by a whole new session, for the protocol has nothing smaller. That is
// done for users with an account. An anonymous user would get another address by it,
// so an anonymous tunnel is kept for as long as its keepalive is answered, whatever its
// lifetime; only one without keepalive is renewed, as nobody would notice its end.
//
// # Sources
//
// The text of RFC 5572 could not be consulted: what is done here follows what was seen on
// the wire between programs of others, as docs/tsp.md tells.
package client
