package daemon

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/exit"
	"sixin4/encap"
	"sixin4/tun/ifcfg"
)

const (
	// namePrefix is what automatic interface names begin with.
	namePrefix = "sixin4-"
	// usualWireMTU is taken for a peer to which there is no route yet.
	usualWireMTU encap.WireMTU = 1500
)

// Plan is everything that Up is going to change, and what it found out about
// this host to know it.
type Plan struct {
	Name      string         `json:"name"`
	Local     netip.Addr     `json:"local"`
	Peers     []PlannedPeer  `json:"peers"`
	MTU       encap.TunMTU   `json:"mtu"`
	Addresses []netip.Prefix `json:"addresses"` // the link-local one first
	Routes    []netip.Prefix `json:"routes"`
	Socket    string         `json:"socket"`
	Changes   []string       `json:"changes"` // in order, for people
	Warnings  []string       `json:"warnings,omitempty"`

	wireMTU encap.WireMTU // of the ways to the peers, the smallest
	linkMTU int           // of the links to the peers, the largest
	far     netip.Addr    // who is asked by --mtu probe
}

// PlannedPeer is a peer and the MTU of the tunnel to it.
type PlannedPeer struct {
	Remote   netip.Addr     `json:"remote,omitzero"`
	Rule     string         `json:"rule,omitempty"` // in place of Remote
	Prefixes []netip.Prefix `json:"prefixes"`
	MTU      encap.TunMTU   `json:"mtu"`

	invalid  func(reason string) error // blames the value that named the peer; nil when none did
	mapping  *encap.Mapping            // of the rule
	route    netip.Addr                // where the route leads, in place of Remote
	unproven bool                      // as engine.Peer has it
	port     uint16                    // over UDP; 0: protocol 41
	socket   uint16                    // of lanes.udp, over UDP at a hub
	local    netip.AddrPort            // that socket's; invalid: the shape's address, any port
	merged   bool                      // takes merged TCP in UDP
	inner    netip.Addr                // over UDP: its own address in the tunnel
}

// blame is the error that the peer is not one to have.
func (p PlannedPeer) blame(reason string) error {
	if p.invalid != nil {
		return p.invalid(reason)
	}
	return fmt.Errorf("peer %s %s", p, reason)
}

// NewPlan works out what Up would do here. It needs no privilege and changes
// nothing.
func NewPlan(cfg config.Config, env Env) (Plan, error) {
	p := Plan{Local: cfg.Local, Routes: cfg.Routes}
	if p.Routes == nil {
		p.Routes = []netip.Prefix{}
	}
	blame := func(reason string) error { return cfg.Invalid(config.BindInterface, reason) }
	if err := p.checkBind(cfg.Bind, env, blame); err != nil {
		return Plan{}, err
	}
	steps := []func(config.Config, Env) error{p.findWay, p.chooseName, p.lookForSit}
	for _, step := range steps {
		if err := step(cfg, env); err != nil {
			return Plan{}, err
		}
	}
	p.Addresses = append([]netip.Prefix{linkLocal(p.Local)}, cfg.Addresses...)
	p.reachFarEnd(cfg)
	p.Changes = p.changes(cfg)
	return p, nil
}

// reachFarEnd adds a route to whom is asked at the far end, unless one of the others
// leads there.
func (p *Plan) reachFarEnd(cfg config.Config) {
	p.far = cfg.Far
	to := cfg.Keepalive.To
	if !to.IsValid() || to.IsLinkLocalUnicast() {
		return
	}
	leads := func(way netip.Prefix) bool { return way.Contains(to) }
	if !slices.ContainsFunc(p.Routes, leads) && !slices.ContainsFunc(p.Addresses, leads) {
		p.Routes = append(slices.Clone(p.Routes), single(to))
	}
}

// findWay asks for the route to every peer: it gives the local address, if that
// is automatic, and the MTU. A peer without a route is one whose link is away; it
// may come back, but without a local address there is no way to begin.
func (p *Plan) findWay(cfg config.Config, env Env) error {
	for _, peer := range cfg.Peers {
		mtu, err := p.askRoute(peer, cfg.Bind, env)
		if err != nil {
			return err
		}
		if err := peer.CheckLocal(p.Local); err != nil {
			return err
		}
		if p.wireMTU == 0 || mtu < p.wireMTU {
			p.wireMTU = mtu
		}
		planned := PlannedPeer{Remote: peer.Remote, Prefixes: peer.Prefixes, MTU: cfg.MTU, invalid: peer.Invalid}
		if err := p.planMapped(cfg, peer, &planned); err != nil {
			return err
		}
		if cfg.MTU == 0 {
			planned.MTU = mtu.Tun()
		}
		p.Peers = append(p.Peers, planned)
	}
	p.MTU = cfg.MTU
	if p.MTU == 0 {
		p.MTU = p.wireMTU.Tun()
	}
	return nil
}

// askRoute returns the MTU of the way to peer and fills in the local address.
func (p *Plan) askRoute(peer config.Peer, bind string, env Env) (encap.WireMTU, error) {
	route, err := routeTo(env.host(), wayTo(peer), bind)
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return 0, peer.Invalid("is the broadcast address of a network of this host; the far end is one host")
	case route.Local && !p.Local.IsValid():
		return 0, peer.Invalid("is an address of this host; the far end is another host (if both ends are to be here, give --local)")
	case err == nil && !p.Local.IsValid():
		p.Local = route.Source
	case err != nil && !p.Local.IsValid():
		return 0, exit.With(exit.TryAgain, fmt.Errorf(
			"%w: there is no local address to use (give --local A.B.C.D, or wait for the network)", err))
	case err != nil:
		p.Warnings = append(p.Warnings, fmt.Sprintf("%v: the MTU is taken to be %d", err, usualWireMTU))
		return usualWireMTU, nil
	}
	p.linkMTU = max(p.linkMTU, route.LinkMTU)
	return encap.WireMTU(route.FixedMTU()), nil
}

// chooseName plans a name for the interface, and the socket that goes with it.
func (p *Plan) chooseName(cfg config.Config, env Env) (err error) {
	p.Name, p.Socket, err = chooseName(staticSettings(cfg), env)
	return err
}

// chooseName takes the name that was given, which must be free, or the first free
// one but those of avoid, and the socket that was given, or the usual one of that name.
func chooseName(set settings, env Env, avoid ...string) (name, socket string, err error) {
	if name = set.Name; name == "" {
		name, err = env.host().FreeName(namePrefix, func(name string) bool {
			// Another network namespace may share the directory of the sockets.
			return slices.Contains(avoid, name) ||
				set.Socket == "" && control.Alive(control.Path(env.SocketDirs, name))
		})
	} else {
		err = checkFree(set, env)
	}
	if socket = set.Socket; socket == "" {
		socket = control.Path(env.SocketDirs, name)
	}
	return name, socket, err
}

func checkFree(set settings, env Env) error {
	exists, err := env.host().Exists(set.Name)
	if err == nil && exists {
		return set.nameTaken()
	}
	return err
}

// nameTaken blames the name. A broker has one of its own where none is given.
func (s settings) nameTaken() error {
	reason := "an interface of this name exists; choose another"
	if !s.hub {
		reason += ", or none for the first free of sixin4-0, sixin4-1, ..."
	}
	return s.invalid(config.Name, reason)
}

// lookForSit warns of the kernel's own tunnel driver. Where it is loaded, the
// kernel hands every protocol-41 packet to it as well as to our raw socket, and
// answers those that fit none of its tunnels with an ICMPv4 port unreachable.
// Taking sit0 down does not end that, and neither does removing sit while
// another driver (ipip) keeps tunnel4 loaded; a packet filter does.
func (p *Plan) lookForSit(_ config.Config, env Env) error {
	exists, err := env.host().Exists("sit0")
	if err != nil || !exists {
		return err
	}
	remote := "PEER"
	if len(p.Peers) == 1 && p.Peers[0].mapping == nil {
		remote = p.Peers[0].Remote.String()
	}
	p.Warnings = append(p.Warnings, fmt.Sprintf("the kernel's sit driver is loaded here too (sit0): "+
		"it answers our peers with ICMPv4 port unreachable; to stop that: "+
		"iptables -A OUTPUT -d %s -p icmp --icmp-type port-unreachable -j DROP", remote))
	return nil
}

// linkLocal is the link-local address of a tunnel: fe80::/64 and the IPv4
// address in the last 32 bits (RFC 4213, Section 3.7).
func linkLocal(local netip.Addr) netip.Prefix {
	a := [16]byte{0: 0xfe, 1: 0x80}
	v4 := local.As4()
	copy(a[12:], v4[:])
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// changes lists what Up does, in its order.
func (p *Plan) changes(cfg config.Config) []string {
	list := p.leftovers()
	list = append(list, fmt.Sprintf("open a raw socket for protocol 41 on %s%s", p.Local, sending[cfg.Wire]))
	list = append(list, interfaceChanges(cfg.Common, p.Name, p.MTU, p.Addresses, p.Routes)...)
	list = append(list, socketChanges(cfg.Common, p.Socket)...)
	list = append(list, farEndChanges(cfg)...)
	for _, peer := range p.Peers {
		list = append(list, fmt.Sprintf("carry what goes to %s to the peer %s", strings.Join(texts(peer.Prefixes), ", "), peer))
	}
	return list
}

// leftovers lists what is undone first of a killed run of another kind with this name.
func (p *Plan) leftovers() []string {
	if !hasStateFile(p.Socket, p.Name) {
		return nil
	}
	r := Rehearsal{Name: p.Name, Socket: p.Socket}
	r.leftovers(true)
	return append(r.Changes, r.Warnings...) // the run itself warns when it comes to that
}

// sending says what --wire makes of how packets leave.
var sending = map[string]string{
	config.WireAuto:   ", and packet sockets to send by as long as nothing on this host looks at what leaves",
	config.WirePacket: ", and packet sockets to send by, past this host's firewall",
}

// WriteText writes the changes line by line, then the warnings.
func (p Plan) WriteText(w io.Writer) error { return writeChanges(w, p.Changes, p.Warnings) }

// readyLine is what Up prints when packets can flow.
func (p Plan) readyLine(hub bool) string {
	far := fmt.Sprintf("%d peers", len(p.Peers))
	if !hub {
		far = p.Peers[0].Remote.String()
	}
	return fmt.Sprintf("ready: %s %s -> %s mtu %d", p.Name, p.Local, far, p.MTU)
}

// host is what the daemon asks the operating system.
type host interface {
	RouteTo(netip.Addr) (ifcfg.Route, error)
	RouteVia(dst netip.Addr, link string) (ifcfg.Route, error)
	Exists(name string) (bool, error)
	FreeName(base string, taken func(string) bool) (string, error)
	HasAddress(netip.Addr) (bool, error)
	Addresses() ([]netip.Addr, error) // of IPv4
	HostPrefixes(exceptIndex int) ([]netip.Prefix, error)
	HostAddresses(exceptIndex int) ([]netip.Addr, error) // of IPv6
}

// thisHost is the real one.
type thisHost struct{}

func (thisHost) RouteTo(dst netip.Addr) (ifcfg.Route, error) { return ifcfg.RouteTo(dst) }
func (thisHost) RouteVia(dst netip.Addr, link string) (ifcfg.Route, error) {
	return ifcfg.RouteVia(dst, link)
}
func (thisHost) Exists(name string) (bool, error)      { return ifcfg.Exists(name) }
func (thisHost) HasAddress(a netip.Addr) (bool, error) { return ifcfg.HasAddress(a) }
func (thisHost) Addresses() ([]netip.Addr, error)      { return ifcfg.Addresses() }
func (thisHost) FreeName(base string, taken func(string) bool) (string, error) {
	return ifcfg.FreeName(base, taken)
}
func (thisHost) HostPrefixes(except int) ([]netip.Prefix, error) {
	return ifcfg.HostPrefixes(except)
}
func (thisHost) HostAddresses(except int) ([]netip.Addr, error) {
	return ifcfg.HostAddresses(except)
}
