// Package web is the pages of a broker of tunnels (RFC 5572): people sign up, log in,
// see their tunnel and copy what sets up the other end; operators see users, tunnels,
// pool and traffic. It also answers /nic/update, the call by which routers with a
// dyndns client tell a broker where they are (Basic authentication, RFC 7617).
//
// All is rendered here; there is no script. [New] makes a [Site], which is an
// http.Handler, and [Site.Run] serves it. What the pages need of the broker that runs
// is a [Backend]; users and leases are in a store.Store.
//
// # Signing up
//
//	          sign-up                     operator approves
//	closed    (nobody)
//	approve   form ──> link, shown once ────────────────────> link shows name and password, once
//	mail      form ──> "we have sent a mail" ──> link in it ──> choose a password
//
// The secret in a link is 130 random bits; the store has its SHA-256 and forgets it
// with the first use. No answer tells whether a name or an e-mail is known: the mail
// does, to who reads it, or the operator. A forgotten password is changed by such a link
// too, which goes to an e-mail that was confirmed by one.
//
// # What a stranger can do
//
// Passwords are checked by package account, which limits failures and takes as long for
// a name that nobody has. Requests of one source are limited, sign-ups and mails to
// one address more so. Requests must be complete in time, and connections are bounded in
// all and for each source: when there are too many, the source that has most makes room,
// and so it is with sign-ups that wait. Pages are answered to requests by TLS, from this host or
// from a proxy that is trusted, and to no other.
//
// A session is a cookie of 130 random bits (RFC 6265: HttpOnly, SameSite=Strict, Secure
// and __Host- under TLS); this process knows its SHA-256. It ends with a password that
// changes, a user that is disabled, twelve hours without a request, seven days, or the
// process. Every form has a token that is bound to a cookie, and requests from other
// origins are refused.
//
// The RFCs are cited from memory: their texts could not be consulted.
package web
