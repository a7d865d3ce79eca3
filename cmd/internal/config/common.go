package config

import (
	"errors"
	"fmt"
	"net/netip"

	"sixin4/encap"
	"sixin4/tun/ifcfg"
)

// maxSocketPath is the longest path that fits sockaddr_un on Linux, whose field
// has 108 bytes with the closing zero.
const maxSocketPath = 107

// Common is what every tunnel has, whoever says where its far end is.
type Common struct {
	Name    string         // of the interface; empty means the first free one
	MTU     encap.TunMTU   // 0 means automatic
	Probe   bool           // find out what the way to the far end carries by asking it; MTU is 0
	TTL     Field          // of the outer header; Value is never 0
	TOS     Field          // the lowest two bits of Value are 0
	Queues  int            // of the TUN device; 0 means automatic
	Wire    string         // WireAuto, WireRaw, WirePacket or WireBPF
	Socket  string         // path; empty means the usual place
	Metrics netip.AddrPort // for Prometheus; not valid means none; the port is never 0
	LogJSON bool
	Verbose bool

	ClampMSS Clamp
	Bind     string // interface of the outer packets; empty means whatever the routes say
}

// Field is a byte of the outer header: a fixed value, or that of the packet
// inside.
type Field struct {
	Inherit bool
	Value   uint8
}

func (c *Common) check(raw Raw) error {
	for _, step := range []func(Raw) error{c.checkName, c.checkHeader, c.checkDevice, c.checkMetrics, c.checkLog} {
		if err := step(raw); err != nil {
			return err
		}
	}
	return nil
}

func (c *Common) checkName(raw Raw) (err error) {
	if len(raw[Name]) == 0 {
		return nil
	}
	c.Name, err = one(raw, Name, "", parseName)
	return err
}

func (c *Common) checkHeader(raw Raw) (err error) {
	if c.TTL, err = one(raw, TTL, "64", parseTTL); err != nil {
		return err
	}
	c.TOS, err = one(raw, TOS, "0", parseTOS)
	return err
}

func (c *Common) checkDevice(raw Raw) (err error) {
	if err := c.checkMTU(raw); err != nil {
		return err
	}
	if err := c.checkBind(raw); err != nil {
		return err
	}
	if c.Queues, err = one(raw, Queues, auto, parseQueues); err != nil {
		return err
	}
	if c.Wire, err = one(raw, Wire, WireAuto, parseWire); err != nil || len(raw[Socket]) == 0 {
		return err
	}
	c.Socket, err = one(raw, Socket, "", ParseSocket)
	return err
}

// checkHub refuses what only a tunnel with one far end can have.
func (c *Common) checkHub(raw Raw, hub bool) error {
	if v, _ := raw.last(MTU); hub && c.Probe {
		return invalid(MTU, v, "the way to each of several far ends carries something else, and only one can be asked; auto, or a number, for a hub")
	}
	return nil
}

// checkStaticHub is checkHub for one whose far ends are configured: these cannot say that
// they take what the kernel sends.
func (c *Common) checkStaticHub(raw Raw, hub bool) error {
	if v, _ := raw.last(Wire); hub && c.Wire == WireBPF {
		return invalid(Wire, v, "the kernel carries packets of one far end only; auto, raw or packet for a hub")
	}
	return c.checkHub(raw, hub)
}

func (c *Common) checkLog(raw Raw) (err error) {
	if c.LogJSON, err = one(raw, LogFormat, "text", parseLogFormat); err != nil {
		return err
	}
	c.Verbose, err = one(raw, Verbose, "false", parseBool)
	return err
}

func parseName(s string) (string, error) { return s, checkName(s) }

// checkName says what is wrong with the name of an interface, of one that is much too long
// not all of it.
func checkName(s string) error {
	err := ifcfg.CheckName(s)
	if err != nil && len(s) > mostShown {
		return fmt.Errorf("%d bytes are no name of an interface, which has 15 at most", len(s))
	}
	return err
}

// ParseSocket checks the path of a control socket.
func ParseSocket(s string) (string, error) {
	if s == "" {
		return "", errors.New("empty; the path of a socket belongs here, like /run/sixin4/home.sock")
	}
	if len(s) > maxSocketPath {
		return "", fmt.Errorf("%d bytes long; the path of a socket has at most %d", len(s), maxSocketPath)
	}
	return s, nil
}

func parseWire(s string) (string, error) {
	if s != WireAuto && s != WireRaw && s != WirePacket && s != WireBPF {
		return "", errors.New("no such wire; auto, raw, packet or bpf")
	}
	return s, nil
}

func parseLogFormat(s string) (isJSON bool, err error) {
	if s != "text" && s != "json" {
		return false, errors.New("no such format; text or json")
	}
	return s == "json", nil
}

func parseBool(s string) (bool, error) {
	if s != "true" && s != "false" {
		return false, errors.New("neither true nor false")
	}
	return s == "true", nil
}
