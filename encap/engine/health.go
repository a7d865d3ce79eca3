package engine

import (
	"errors"
	"log/slog"
	"syscall"

	"sixin4/encap"
)

// sendDrop classifies an error of the wire.
func sendDrop(err error) encap.Drop {
	// Unlike As, AsType does not allocate: a full queue refuses many packets.
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return encap.DropSendError
	}
	switch errno {
	case syscall.ENOBUFS, syscall.ENOMEM:
		return encap.DropSendNoBufs
	case syscall.EMSGSIZE:
		return encap.DropSendMsgSize
	case syscall.EPERM, syscall.EACCES:
		return encap.DropSendPerm
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN,
		syscall.EADDRNOTAVAIL, syscall.ENXIO, syscall.ENODEV:
		return encap.DropSendUnreachable
	}
	return encap.DropSendError
}

// tunDrop classifies an error of the TUN.
func tunDrop(err error) encap.Drop {
	if errors.Is(err, syscall.EIO) {
		return encap.DropTunDown
	}
	return encap.DropTunError
}

// quietNanos is how long a kind of failure must have been absent to count as
// over: failures that come and go within it are one state, and one line of log.
const quietNanos = int64(10e9)

// health turns a stream of successes and failures into changes of state.
type health struct {
	log    *slog.Logger
	now    func() int64          // monotonic, nanoseconds
	last   [encap.NumDrops]int64 // when each failure was last seen; 0: not failing
	active int                   // how many are not zero
}

// failed notes a failure, and logs it when it is a new state.
func (h *health) failed(d encap.Drop, err error) {
	if h.last[d] == 0 {
		h.active++
		h.log.Warn("packets are being lost", "reason", d.String(), "err", err)
	}
	h.last[d] = max(h.now(), 1)
}

// fine notes that everything of a batch went well.
func (h *health) fine() {
	if h.active == 0 {
		return
	}
	now := h.now()
	for d := range h.last {
		if h.last[d] != 0 && now-h.last[d] > quietNanos {
			h.last[d] = 0
			h.active--
			h.log.Info("packets pass again", "reason", encap.Drop(d).String())
		}
	}
}
