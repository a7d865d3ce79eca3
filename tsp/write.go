package tsp

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// writer puts a message together in the one form that every known peer reads: lower
// case, double quotes, one element a line, CR LF. Nothing needs to be escaped, for
// only checked addresses, names and numbers get here.
type writer []byte

// line writes one line, its blanks included.
func (w *writer) line(format string, args ...any) {
	*w = fmt.Appendf(*w, format, args...)
	*w = append(*w, "\r\n"...)
}

// address writes an address element; IPv6 in full, since clients cut prefixes out of
// the text by counting characters.
func (w *writer) address(indent, kind string, a netip.Addr) {
	w.line(`%s<address type="%s">%s</address>`, indent, kind, a.StringExpanded())
}

func wholeSeconds(d time.Duration) int64 { return int64(d / time.Second) }

// Message is the offer as the answer to a command: status, tunnel, four addresses,
// at least one resolver. It fails where Check does, and without a resolver: a client
// in the field crashes when it gets none.
func (t *Tunnel) Message() (Message, error) {
	if err := t.Check(); err != nil {
		return Message{}, fmt.Errorf("write tunnel: %w", err)
	}
	if len(t.DNS) == 0 {
		return Message{}, fmt.Errorf("write tunnel: %w: no resolver", ErrBadTunnel)
	}
	var w writer
	w.line(`<tunnel action="info" type="%s"%s%s>`, t.Type, t.lifetimeAttr(), t.mtuAttr())
	w.line(`  <server>`)
	w.address("    ", typeIPv4, t.Server4)
	w.address("    ", typeIPv6, t.Server6)
	w.line(`  </server>`)
	w.line(`  <client>`)
	w.address("    ", typeIPv4, t.Client4)
	w.address("    ", typeIPv6, t.Client6)
	t.writeExtras(&w)
	w.line(`  </client>`)
	w.line(`</tunnel>`)
	m := Success.Message(true)
	m.XML = w
	return m, nil
}

func (t *Tunnel) lifetimeAttr() string {
	if t.Lifetime == 0 {
		return ""
	}
	return fmt.Sprintf(` lifetime="%d"`, wholeSeconds(t.Lifetime))
}

func (t *Tunnel) mtuAttr() string {
	if t.MTU == 0 {
		return ""
	}
	return fmt.Sprintf(` mtu="%d"`, t.MTU)
}

func (t *Tunnel) writeExtras(w *writer) {
	if t.ClientName != "" {
		w.line(`    <address type="dn">%s</address>`, t.ClientName)
	}
	w.line(`    <dns_server>`)
	for _, a := range t.DNS {
		w.address("      ", typeIPv6, a)
	}
	w.line(`    </dns_server>`)
	if t.Prefix.IsValid() {
		w.line(`    <router>`)
		w.line(`      <prefix length="%d">%s</prefix>`, t.Prefix.Bits(), t.Prefix.Addr().StringExpanded())
		w.line(`    </router>`)
	}
	if t.Keepalive > 0 {
		w.line(`    <keepalive interval="%d">`, wholeSeconds(t.Keepalive))
		w.address("      ", inner(t.Type), t.KeepaliveTo)
		w.line(`    </keepalive>`)
	}
}

// Message is the request as a command. It fails where a broker would refuse what
// this package reads; the error is an [Error] as [ParseRequest] returns it.
func (r *Request) Message() (Message, error) {
	if err := r.check(); err != nil {
		return Message{}, fmt.Errorf("write request: %w", err)
	}
	var w writer
	switch r.Action {
	case ActionCreate:
		r.writeCreate(&w)
	case ActionInfo:
		w.line(`<tunnel action="info" type="%s"></tunnel>`, r.Type)
	default:
		w.line(`<tunnel action="%s"></tunnel>`, r.Action)
	}
	return Message{XML: w, Framed: true}, nil
}

func (r *Request) writeCreate(w *writer) {
	proxy := "no"
	if r.Proxy {
		proxy = "yes"
	}
	w.line(`<tunnel action="create" type="%s" proxy="%s"%s>`, r.Type, proxy, r.mergedAttr())
	w.line(` <client>`)
	w.address("  ", r.Type.outer(), r.Client)
	if r.Keepalive > 0 {
		w.line(`  <keepalive interval="%d">`, wholeSeconds(r.Keepalive))
		w.line(`    %s`, keepaliveAnybody(r.Type))
		w.line(`  </keepalive>`)
	}
	r.writeRouter(w)
	w.line(` </client>`)
	w.line(`</tunnel>`)
}

func (r *Request) mergedAttr() string {
	if !r.Merged {
		return ""
	}
	return fmt.Sprintf(` merged="%s"`, strings.ToLower(mergedValue))
}

// keepaliveAnybody is the address in a request: the broker will say whom to ping.
func keepaliveAnybody(t Type) string {
	if t == V4V6 {
		return `<address type="ipv4">127.0.0.1</address>`
	}
	return `<address type="ipv6">::</address>`
}

func (r *Request) writeRouter(w *writer) {
	if r.Router == nil {
		return
	}
	w.line(`  <router>`)
	if r.Router.PrefixLen > 0 {
		w.line(`   <prefix length="%d"/>`, r.Router.PrefixLen)
	}
	if len(r.Router.DNS) > 0 {
		w.line(`   <dns_server>`)
		for _, name := range r.Router.DNS {
			w.line(`     <address type="dn">%s</address>`, name)
		}
		w.line(`   </dns_server>`)
	}
	w.line(`  </router>`)
}

// RedirectMessage sends a client to other brokers. Framed is for the answer to a
// command: before that, clients take no redirection with a Content-length. Clients
// read lists from [V201] on; put addresses in it, not names, which they may try for
// ever. At most 50.
func RedirectMessage(brokers []Broker, framed bool) (Message, error) {
	if len(brokers) == 0 || len(brokers) > maxBrokers {
		return Message{}, fmt.Errorf("write broker list: %d brokers, not 1 to %d", len(brokers), maxBrokers)
	}
	var w writer
	w.line(`<tunnel action="info">`)
	w.line(` <broker>`)
	for _, b := range brokers {
		kind, text, err := b.element()
		if err != nil {
			return Message{}, fmt.Errorf("write broker list: %w", err)
		}
		w.line(`  <address type="%s">%s</address>`, kind, text)
	}
	w.line(` </broker>`)
	w.line(`</tunnel>`)
	m := Redirection.Message(framed)
	m.XML = w
	return m, nil
}

var errNoBroker = errors.New("neither one address nor one name")

func (b Broker) element() (kind, text string, err error) {
	switch {
	case b.Addr.IsValid() == (b.Name != ""):
		return "", "", errNoBroker
	case b.Name != "":
		return typeName, b.Name, checkName(b.Name)
	case b.Addr.Is4():
		return typeIPv4, b.Addr.String(), checkBroker(typeIPv4, b.Addr)
	}
	return typeIPv6, b.Addr.String(), checkBroker(typeIPv6, b.Addr)
}
