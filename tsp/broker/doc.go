// Package broker serves the Tunnel Setup Protocol (RFC 5572): it talks to clients
// over TCP and UDP, finds out who they are, and hands what they ask for to a
// [Provisioner], which has the addresses and makes the tunnels. It carries no packets.
//
// # A session
//
//	         VERSION        AUTHENTICATE       its messages
//	greeting ───────> login ────────────> proving ─────> command
//	                    ^                    │ failed      │ create
//	                    └────────────────────┘             v
//	                                  accept  ┌───────── offered ── reject ──> command
//	                              up <────────┘
//
// A message that fits in the table of moves may change the state; any other, and any
// that is refused, costs one of [Limits].Errors, and the last of them ends the session
// (state over). In version 1.0.1 a tunnel is up as soon as it is offered.
//
// Over TCP an answer is one write, there is none to AUTHENTICATE PLAIN and to accept,
// and between two in a row is tsp.AnswerPause. Over UDP each message has exactly one
// answer; what TCP has none for is a bare header, and the second of two is fetched by
// an empty message. A datagram that comes twice is answered twice and run once.
//
// # What a stranger can do
//
// Little. TCP connections that have no tunnel are bounded in all and for each source;
// when there are too many the oldest goes. One that says nothing costs a goroutine
// and no buffer. A message must be complete in time, and a session too. Connections
// behind accept are kept, as clients keep them; when there are too many the oldest
// of them is closed, which does a tunnel no harm.
//
// Over UDP anybody may write any source address. So an answer is at most five times
// the datagram that it answers, until the source has shown that it got a random nonce
// of ours (a finished DIGEST-MD5 or SCRAM-SHA-256), and what a source is answered is
// limited. A list of brokers is cut to what fits, and comes with the answer to create
// when nothing fits before. What datagrams use up does not count against TCP. No data
// is sent at all.
//
// Logins are limited by package account. A client hears a status with its fixed text,
// never the text of an error.
//
// # Sources
//
// The text of RFC 5572 could not be consulted: what is done here is what clients of
// others were seen to need on the wire. The recorded sessions in testdata/tsp are
// replayed by the tests.
package broker
