package packet

// Batch is a fixed number of packets that are read, worked on and written
// together. It belongs to one goroutine.
type Batch struct {
	Packets []Packet // the first n of cap(Packets) in use
}

// NewBatch returns an empty batch that holds up to size packets.
func NewBatch(size int) *Batch {
	return &Batch{Packets: make([]Packet, 0, size)}
}

// Reset empties the batch.
func (b *Batch) Reset() { b.Packets = b.Packets[:0] }

// Len returns the number of packets in the batch.
func (b *Batch) Len() int { return len(b.Packets) }

// Full reports whether Next would return nil.
func (b *Batch) Full() bool { return len(b.Packets) == cap(b.Packets) }

// Fail marks every packet that has no error yet with err, for a writer that
// cannot write any of them.
func (b *Batch) Fail(err error) {
	for i := range b.Packets {
		if p := &b.Packets[i]; p.Err == nil {
			p.Err = err
		}
	}
}

// Each calls write for every packet and keeps what it returns as the packet's Err,
// for writers that take one packet at a time. It returns how many were written
// and the first error.
func (b *Batch) Each(write func(p *Packet) error) (n int, err error) {
	for i := range b.Packets {
		p := &b.Packets[i]
		p.Err = write(p)
	}
	return b.Result()
}

// Result returns how many packets have no error, and the first error.
func (b *Batch) Result() (n int, err error) {
	for i := range b.Packets {
		if e := b.Packets[i].Err; e == nil {
			n++
		} else if err == nil {
			err = e
		}
	}
	return n, err
}

// Next adds one packet to the batch and returns it for the caller to Set, or
// returns nil when the batch is full.
func (b *Batch) Next() *Packet {
	n := len(b.Packets)
	if n == cap(b.Packets) {
		return nil
	}
	b.Packets = b.Packets[:n+1]
	return &b.Packets[n]
}
