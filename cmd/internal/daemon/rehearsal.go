package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/state"
)

// Rehearsal is what Connect or Serve would change on this host, as far as that is known
// before a broker or a client has said anything.
type Rehearsal struct {
	Name     string   `json:"name"`
	Socket   string   `json:"socket"`
	Changes  []string `json:"changes"` // in order, for people
	Warnings []string `json:"warnings,omitempty"`
}

// WriteText writes the changes line by line, then the warnings.
func (r Rehearsal) WriteText(w io.Writer) error { return writeChanges(w, r.Changes, r.Warnings) }

func writeChanges(w io.Writer, changes, warnings []string) error {
	var errs []error
	for _, c := range changes {
		_, err := fmt.Fprintln(w, c)
		errs = append(errs, err)
	}
	for _, warning := range warnings {
		_, err := fmt.Fprintln(w, "warning:", warning)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *Rehearsal) add(format string, args ...any) {
	r.Changes = append(r.Changes, fmt.Sprintf(format, args...))
}

// interfaceChanges is how an interface is made.
func interfaceChanges(c config.Common, name string, mtu any, addresses, routes []netip.Prefix) []string {
	queues := "1 queue"
	if c.Queues > 1 {
		queues = fmt.Sprintf("%d queues", c.Queues)
	}
	list := []string{
		fmt.Sprintf("make the TUN interface %s with %s", name, queues),
		"turn IPv6 on for it where it is off, and its automatic link-local address off",
		fmt.Sprintf("set its MTU to %v", mtu),
		"set it up",
	}
	for _, a := range addresses {
		list = append(list, fmt.Sprintf("give it the address %s", a))
	}
	for _, r := range routes {
		list = append(list, fmt.Sprintf("route %s into it", r))
	}
	return list
}

// socketChanges is how others can ask about a tunnel.
func socketChanges(c config.Common, socket string) []string {
	list := []string{"make the control socket " + socket}
	if c.Metrics.IsValid() {
		list = append(list, fmt.Sprintf("serve metrics at %s", c.Metrics))
	}
	return list
}

// leftovers is what a start with this name would undo first, sysctls only if so asked.
func (r *Rehearsal) leftovers(sysctls bool) {
	path, err := stateFile(r.Socket, r.Name)
	if err != nil {
		r.Warnings = append(r.Warnings, err.Error())
		return
	}
	records, err := state.Leftover(path)
	if err != nil {
		r.Warnings = append(r.Warnings, fmt.Sprintf("what an earlier run left is not known: %v", err))
	}
	for _, record := range records {
		switch {
		case record.Script != nil:
			r.add("undo what an earlier run left: run %s%s", record.Script.Path, record.Script.Command)
		case record.Route != nil:
			r.add("undo what an earlier run left: delete the unreachable route %s", record.Route.Prefix)
		case record.Sysctl != nil && sysctls:
			r.add("undo what an earlier run left: set %s to %d", name(record.Sysctl.Path), record.Sysctl.Was)
		}
	}
}

// RehearseConnect works out what Connect would do here. It asks no broker, needs no
// privilege and changes nothing.
func RehearseConnect(cfg config.Connect, env Env) (r Rehearsal, err error) {
	t := &negotiated{tunnel: &tunnel{set: connectSettings(cfg), env: env}, cfg: cfg}
	if r.Name, r.Socket, err = chooseName(t.set, env); err != nil {
		return Rehearsal{}, err
	}
	if !cfg.Once {
		r.leftovers(true)
	}
	r.askBroker(cfg)
	if !cfg.Once {
		t.rehearse(&r)
	}
	return r, nil
}

func (r *Rehearsal) askBroker(cfg config.Connect) {
	names := make([]string, 0, len(cfg.Servers))
	for _, s := range cfg.Servers {
		names = append(names, s.String())
	}
	who := "without an account"
	if cfg.User != "" {
		who = "as " + cfg.User
	}
	what := "a tunnel"
	if cfg.Router {
		what = "a tunnel and a prefix"
	}
	r.add("ask the broker %s for %s, %s", strings.Join(names, " or "), what, who)
}

// rehearse adds what is done with a lease.
func (t *negotiated) rehearse(r *Rehearsal) {
	r.Changes = append(r.Changes, socketChanges(t.cfg.Common, r.Socket)...)
	if !t.cfg.Proxy {
		r.Changes = append(r.Changes, interfaceChanges(t.cfg.Common, r.Name, t.plannedMTU(), nil, nil)...)
		from := "the address that packets to the broker leave from"
		if t.cfg.Local.IsValid() {
			from = t.cfg.Local.String()
		}
		r.add("open a raw socket for protocol 41 on %s%s", from, sending[t.cfg.Wire])
	}
	if t.cfg.Script == "" && !t.cfg.Proxy {
		r.add("give it a link-local address, and the address that the broker gives")
		r.add("route the broker's end of the tunnel into it")
		if !t.cfg.NoRoute {
			r.add("route %s into it", everything)
		}
		if t.cfg.Router {
			r.add("make an unreachable route for the prefix that the broker gives")
		}
	}
	for _, c := range t.commands() {
		if !isEmpty(c.up) {
			r.add("run %s%s when it is up", c.up.Path, c.up.Command)
		}
		if !isEmpty(c.down) {
			r.add("run %s%s before it is taken down", c.down.Path, c.down.Command)
		}
	}
}

func (t *negotiated) plannedMTU() any {
	if t.cfg.MTU != 0 {
		return t.cfg.MTU
	}
	return "what the way to the broker carries, less 20"
}

// RehearseServe works out what Serve would do here. It needs no privilege and changes
// nothing.
func RehearseServe(cfg config.Broker, env Env) (r Rehearsal, err error) {
	b := &brokerage{tunnel: &tunnel{set: brokerSettings(cfg), env: env}, cfg: cfg}
	if err := b.findListen(context.Background()); err != nil {
		return Rehearsal{}, err
	}
	if r.Name, r.Socket, err = chooseName(b.set, env); err != nil {
		return Rehearsal{}, err
	}
	s := b.shape()
	b.rehearseStore(&r)
	for _, at := range b.listen {
		if own, err := env.host().HasAddress(at.Addr()); err == nil && !own {
			return Rehearsal{}, cfg.Invalid(config.Local, "no interface of this host has this address")
		}
		r.add("listen at %s, TCP and UDP", at)
	}
	r.Changes = append(r.Changes, interfaceChanges(cfg.Common, r.Name, s.mtu, nil, nil)...)
	if err := b.rehearseForward(&r); err != nil {
		return Rehearsal{}, err
	}
	r.add("open a raw socket for protocol 41 on %s%s", b.local(), sending[cfg.Wire])
	for _, a := range s.addresses {
		r.add("give it the address %s", a)
	}
	r.add("let %d packets wait for it", deviceQueue)
	for _, p := range s.routes {
		r.add("route %s into it, by way of %s", p, s.neighbour)
	}
	r.Changes = append(r.Changes, socketChanges(cfg.Common, r.Socket)...)
	return r, nil
}

func (b *brokerage) rehearseStore(r *Rehearsal) {
	files := []struct{ what, path string }{{"key file", b.cfg.KeyFile}}
	if b.cfg.Postgres() {
		r.add("use the database %s", b.cfg.State)
	} else {
		files = append(files, struct{ what, path string }{"database", b.cfg.State})
	}
	for _, f := range files {
		verb := "use"
		if _, err := os.Stat(f.path); errors.Is(err, fs.ErrNotExist) {
			verb = "make"
		}
		r.add("%s the %s %s", verb, f.what, f.path)
	}
}

func (b *brokerage) rehearseForward(r *Rehearsal) error {
	on, err := router{root: sysctls}.read(forwarding)
	if err != nil {
		return hostError(err)
	}
	r.leftovers(!b.cfg.ConfigureHost || on == 0)
	switch {
	case on == 0 && b.cfg.ConfigureHost:
		r.add("set %s to 1, and back to 0 at the end", name(forwarding))
	case on == 0:
		r.Warnings = append(r.Warnings, "this host does not forward IPv6, so that clients reach nothing but it "+
			"(sysctl -w net.ipv6.conf.all.forwarding=1, or --configure-host)")
	}
	return nil
}
