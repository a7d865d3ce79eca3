package tsp

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Action says what a command is about (RFC 5572, Section 4.7.1, from memory).
type Action string

// The actions. Of these, clients in the field send create and accept only: nobody
// tells a broker that a tunnel is over.
const (
	ActionCreate Action = "create"
	ActionInfo   Action = "info"
	ActionAccept Action = "accept"
	ActionReject Action = "reject" // forget the offer
	ActionDelete Action = "delete"
)

// Request is a command of a client.
type Request struct {
	Action Action

	// All below is for create, Type for info as well.
	Type      Type
	Proxy     bool          // the tunnel ends at Client, not at the sender
	Client    netip.Addr    // the client's own idea of its outer address; behind NAT the inside one
	Keepalive time.Duration // asked for, whole seconds, 1 s to MaxKeepalive; 0 for none
	Router    *Router       // nil for a host

	// Merged: this end takes merged TCP. Through a tunnel over UDP that is one datagram of up
	// to 65507 bytes with one IPv6 and one TCP header, whose TCP checksum is only begun. It is
	// our own: ask with it only where Capability.Merged is set.
	Merged bool
}

// Router asks for a prefix.
type Router struct {
	PrefixLen int      // bits, 1 to 128; 0 for what the account has, which some brokers refuse (NoPrefixLength)
	DNS       []string // name servers for the reverse zone, at most 8
}

// AcceptMessage takes the offer.
func AcceptMessage() Message {
	return Message{XML: []byte("<tunnel action=\"accept\"></tunnel>\r\n"), Framed: true}
}

// ParseRequest reads a command. Its errors are an [Error] with the code to answer:
// [BadRequest], [BadType], [BadIPv4], [BadIPv6], [BadPrefixLength], [BadDelegation].
func ParseRequest(doc []byte) (*Request, error) {
	root, err := parseTunnelElement(doc)
	if err != nil {
		return nil, refuse(BadRequest, "request: %w", err)
	}
	action, _ := root.attr("action")
	kind, _ := root.attr("type")
	r := &Request{Action: Action(action)}
	if r.Action == ActionCreate || r.Action == ActionInfo {
		r.Type = Type(kind)
	}
	if r.Action == ActionCreate {
		if err := r.readCreate(root); err != nil {
			return nil, asRefusal(err)
		}
	}
	if err := r.check(); err != nil {
		return nil, asRefusal(err)
	}
	return r, nil
}

// asRefusal makes an Error of whatever was wrong.
func asRefusal(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return refuse(BadRequest, "request: %w", err)
}

func (r *Request) readCreate(root *element) error {
	if !r.Type.valid() {
		return refuse(BadType, "type %q", clip(string(r.Type)))
	}
	switch proxy, _ := root.attr("proxy"); proxy {
	case "yes":
		r.Proxy = true
	case "no", "":
	default:
		return fmt.Errorf("proxy %q", clip(proxy))
	}
	merged, _ := root.attr("merged")
	r.Merged = strings.EqualFold(merged, mergedValue)
	client, err := root.child("client")
	if err != nil {
		return err
	}
	if r.Client, err = clientAddr(client, r.Type.outer()); err != nil {
		return err
	}
	if err := r.readKeepalive(client); err != nil {
		return err
	}
	return r.readRouter(client)
}

// clientAddr is the address that the client announces.
func clientAddr(client *element, kind string) (netip.Addr, error) {
	text, err := client.address(kind)
	if err != nil {
		return netip.Addr{}, err
	}
	a, err := parseAddr(kind, text)
	if err != nil {
		return netip.Addr{}, refuse(addrCode(kind), "request: %w", err)
	}
	return a, nil
}

// addrCode is the status for a bad address of a kind.
func addrCode(kind string) Code {
	if kind == typeIPv6 {
		return BadIPv6
	}
	return BadIPv4
}

func (r *Request) readKeepalive(client *element) error {
	keepalive, err := client.child("keepalive")
	if keepalive == nil || err != nil {
		return err
	}
	interval, _ := keepalive.attr("interval")
	if r.Keepalive, err = seconds(interval, MaxKeepalive); err != nil {
		return fmt.Errorf("keepalive interval: %w", err)
	}
	return nil
}

func (r *Request) readRouter(client *element) error {
	router, err := client.child("router")
	if router == nil || err != nil {
		return err
	}
	r.Router = new(Router)
	prefix, err := router.child("prefix")
	if err != nil {
		return err
	}
	if prefix != nil {
		length, _ := prefix.attr("length")
		if r.Router.PrefixLen, err = number(length, 1, maxPrefixLen); err != nil {
			return refuse(BadPrefixLength, "prefix length: %w", err)
		}
	}
	servers, err := router.child("dns_server")
	if err != nil {
		return err
	}
	r.Router.DNS = servers.addresses(typeName)
	return nil
}

// check is what reading and writing a request have in common.
func (r *Request) check() error {
	switch r.Action {
	case ActionAccept, ActionReject, ActionDelete:
		return nil
	case ActionCreate, ActionInfo:
	default:
		return refuse(BadRequest, "action %q", clip(string(r.Action)))
	}
	if !r.Type.valid() {
		return refuse(BadType, "type %q", clip(string(r.Type)))
	}
	if r.Action == ActionInfo {
		return nil
	}
	return r.checkCreate()
}

func (r *Request) checkCreate() error {
	if err := checkAddr(r.Type.outer(), r.Client); err != nil {
		return refuse(addrCode(r.Type.outer()), "client: %w", err)
	}
	if r.Keepalive < 0 || r.Keepalive > MaxKeepalive || r.Keepalive%time.Second != 0 {
		return refuse(BadRequest, "keepalive interval %v", r.Keepalive)
	}
	if r.Router == nil {
		return nil
	}
	if n := r.Router.PrefixLen; n < 0 || n > maxPrefixLen {
		return refuse(BadPrefixLength, "prefix length %d", n)
	}
	if len(r.Router.DNS) > maxNames {
		return refuse(BadDelegation, "%d name servers", len(r.Router.DNS))
	}
	for _, name := range r.Router.DNS {
		if err := checkName(name); err != nil {
			return refuse(BadDelegation, "name server: %w", err)
		}
	}
	return nil
}

// maxBrokers bounds a broker list, as the client with the widest use does.
const maxBrokers = 50

// Broker is one entry of a broker list: an address or a name. The list itself may
// point anywhere, this host included; whether to go there is the client's decision.
type Broker struct {
	Addr netip.Addr
	Name string // lower case; empty when Addr is valid
}

// String is the entry as a host for dialling.
func (b Broker) String() string {
	if b.Addr.IsValid() {
		return b.Addr.String()
	}
	return b.Name
}

// ParseBrokers reads a broker list of 1 to 50 entries, in the order of the list.
// Errors wrap [ErrMalformed].
func ParseBrokers(doc []byte) ([]Broker, error) {
	if len(doc) == 0 {
		return nil, fmt.Errorf("%w: redirected without a broker list", ErrMalformed)
	}
	root, err := parseTunnelElement(doc)
	if err != nil {
		return nil, fmt.Errorf("broker list: %w", err)
	}
	var brokers []Broker
	for _, broker := range root.all("broker") {
		for _, a := range broker.all("address") {
			b, err := parseBroker(a)
			if err != nil {
				return nil, fmt.Errorf("broker list: %w: %w", ErrMalformed, err)
			}
			brokers = append(brokers, b)
		}
	}
	if len(brokers) == 0 || len(brokers) > maxBrokers {
		return nil, fmt.Errorf("broker list: %w: %d brokers, not 1 to %d", ErrMalformed, len(brokers), maxBrokers)
	}
	return brokers, nil
}

func parseBroker(e *element) (Broker, error) {
	switch kind, _ := e.attr("type"); kind {
	case typeName:
		return Broker{Name: strings.ToLower(e.text)}, checkName(e.text)
	case typeIPv4, typeIPv6:
		a, err := netip.ParseAddr(e.text)
		if err != nil {
			return Broker{}, fmt.Errorf("address %q: %w", clip(e.text), errNotAddress)
		}
		return Broker{Addr: a}, checkBroker(kind, a)
	default:
		return Broker{}, fmt.Errorf("address of type %q", clip(kind))
	}
}

// checkBroker refuses addresses that cannot be dialled; loopback can.
func checkBroker(kind string, a netip.Addr) error {
	if a == netip.IPv6Loopback() && kind == typeIPv6 {
		return nil
	}
	return checkAddr(kind, a)
}
