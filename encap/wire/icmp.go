package wire

import (
	"log/slog"

	"golang.org/x/net/bpf"
)

// ICMPConfig describes where ICMPv4 messages are received. Zero fields mean the default.
type ICMPConfig struct {
	// Interface is the name of the only one that messages come by; empty means any.
	Interface string
	Logger    *slog.Logger // default: discard
}

// ICMP receives the ICMPv4 errors about packets of protocol 41 that come to this host,
// through a raw socket of its own: no error fails or delays a packet that is sent. What
// they say is to be checked by encap.ParseICMP4; the filter only keeps others out.
type ICMP struct{ icmp }

// ListenICMP opens the socket, for all addresses of this host. The error names a missing
// privilege, and wraps errors.ErrUnsupported where this is not possible.
func ListenICMP(cfg ICMPConfig) (*ICMP, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &ICMP{}
	if err := c.listen(cfg); err != nil {
		return nil, err
	}
	return c, nil
}

// MaxICMP is how many bytes of a message are enough for all that is told about it:
// the headers and what RFC 1812, Section 4.3.2.3 has quoted, and the longest that a link
// of 1500 bytes brings.
const MaxICMP = 2048

// Read waits for a message and returns its length in b, IPv4 header first. One that is
// longer than b is cut off. After Close it returns os.ErrClosed.
func (c *ICMP) Read(b []byte) (n int, err error) { return c.read(b) }

// Close ends a Read that waits. It is idempotent.
func (c *ICMP) Close() error { return c.close() }

// icmpFilter accepts ICMPv4 errors that quote protocol 41, or too little to tell: types 3,
// 4, 11 and 12 (RFC 792).
func icmpFilter() ([]bpf.RawInstruction, error) {
	const quotedProtocol = 8 + 9 // behind the ICMP header, in the quoted IPv4 one
	f := &assembly{}
	f.add(bpf.LoadMemShift{Off: 0}) // X = length of the IPv4 header
	f.add(bpf.LoadIndirect{Off: 0, Size: 1})
	for _, kind := range []uint32{3, 4, 11, 12} {
		f.when(bpf.JumpEqual, kind, "error")
	}
	f.add(bpf.RetConstant{Val: 0})
	f.label("error")
	f.add(bpf.TXA{}).add(bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: quotedProtocol}).add(bpf.TAX{})
	f.add(bpf.LoadExtension{Num: bpf.ExtLen}).add(bpf.JumpIfX{Cond: bpf.JumpLessOrEqual, SkipTrue: 3})
	f.add(bpf.LoadMemShift{Off: 0}).add(bpf.LoadIndirect{Off: quotedProtocol, Size: 1})
	f.unless(bpf.JumpEqual, 41, "reject")
	f.add(bpf.RetConstant{Val: MaxICMP})
	f.label("reject")
	f.add(bpf.RetConstant{Val: 0})
	return f.assemble()
}
