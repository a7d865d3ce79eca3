package netstack

import (
	"os"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sixin4/encap/packet"
)

// link is the far side of the stack's interface (stack.LinkEndpoint). What the
// stack sends waits in a queue for the one reader, which takes all that is there at
// once; what writers bring is handed to the stack in their own goroutine.
type link struct {
	mtu atomic.Uint32

	out      sync.Mutex // held while the queue is used
	arrived  *sync.Cond
	queue    []*stack.PacketBuffer
	queued   int // bytes in it
	limit    int // of queued
	isClosed bool

	// The stack asks at each packet by Capabilities whether its checksums have been
	// verified. Only in is held then, so that the answer is about that packet.
	in       sync.Mutex
	verified atomic.Bool
	up       atomic.Pointer[stack.NetworkDispatcher]

	overflow, split, splitInto, joined, badSum atomic.Uint64
}

func newLink(cfg Config) *link {
	l := &link{limit: cfg.Queue}
	l.arrived = sync.NewCond(&l.out)
	l.mtu.Store(uint32(cfg.MTU))
	return l
}

func (l *link) stats() Stats {
	return Stats{
		Overflow: l.overflow.Load(), Split: l.split.Load(), SplitInto: l.splitInto.Load(),
		Joined: l.joined.Load(), BadSum: l.badSum.Load(),
	}
}

// WritePackets takes what the stack sends. It never blocks: its callers hold locks
// of the stack. A full queue drops, and what does not fit is lost as on any link.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	l.out.Lock()
	defer l.out.Unlock()
	if l.isClosed {
		return 0, &tcpip.ErrClosedForSend{}
	}
	was := len(l.queue)
	for _, p := range pkts.AsSlice() {
		if l.queued >= l.limit {
			l.overflow.Add(1)
			continue
		}
		l.queue = append(l.queue, p.IncRef())
		l.queued += p.Size()
	}
	if was == 0 && len(l.queue) > 0 {
		l.arrived.Signal()
	}
	return pkts.Len(), nil
}

// take waits for packets, and swaps the queue for empty, which it returns.
func (l *link) take(empty []*stack.PacketBuffer) ([]*stack.PacketBuffer, error) {
	l.out.Lock()
	defer l.out.Unlock()
	for len(l.queue) == 0 && !l.isClosed {
		l.arrived.Wait()
	}
	if l.isClosed {
		return empty, os.ErrClosed
	}
	full := l.queue
	l.queue, l.queued = empty, 0
	return full, nil
}

func (l *link) isShut() bool {
	l.out.Lock()
	defer l.out.Unlock()
	return l.isClosed
}

// shut ends take and drops what nobody will read.
func (l *link) shut() {
	l.out.Lock()
	defer l.out.Unlock()
	l.isClosed = true
	for _, p := range l.queue {
		p.DecRef()
	}
	l.queue, l.queued = nil, 0
	l.arrived.Broadcast()
}

// deliver hands a packet to the stack; in is held. It takes over the reference.
func (l *link) deliver(p *stack.PacketBuffer, verified bool) {
	if up := l.up.Load(); up != nil {
		l.verified.Store(verified)
		(*up).DeliverNetworkPacket(header.IPv6ProtocolNumber, p)
	}
	p.DecRef()
}

// Capabilities is what stack.NIC asks before it verifies checksums. Sums of what is
// sent are left to the reader for TCP, see SupportedGSO, and not for others.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	if l.verified.Load() {
		return stack.CapabilityRXChecksumOffload
	}
	return stack.CapabilityNone
}

// SupportedGSO lets TCP send segments as long as GSOMaxSize, which the reader cuts
// up and completes the checksums of.
func (l *link) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// GSOMaxSize is the longest packet that the stack sends, in bytes.
func (l *link) GSOMaxSize() uint32 { return 1 << 16 }

// MaxHeaderLength makes the stack leave this much room in front of its headers, in
// bytes: what goes over the wire is put there in place.
func (l *link) MaxHeaderLength() uint16 { return packet.Headroom }

// MTU is the longest packet in bytes, segments before they are cut excepted.
func (l *link) MTU() uint32 { return l.mtu.Load() }

// SetMTU replaces it.
func (l *link) SetMTU(mtu uint32) { l.mtu.Store(mtu) }

// Attach is given the stack, or nil when the interface goes.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.up.Store(nil)
		return
	}
	l.up.Store(&d)
}

// IsAttached reports whether there is a stack.
func (l *link) IsAttached() bool { return l.up.Load() != nil }

// The rest of stack.LinkEndpoint is about links with addresses and threads.

func (l *link) LinkAddress() tcpip.LinkAddress          { return "" }
func (l *link) SetLinkAddress(tcpip.LinkAddress)        {}
func (l *link) Wait()                                   {}
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (l *link) AddHeader(*stack.PacketBuffer)           {}
func (l *link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (l *link) Close()                                  {}
func (l *link) SetOnCloseAction(func())                 {}
