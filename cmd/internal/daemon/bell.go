package daemon

import "sync"

// bell wakes all who wait for the next time that something happens. The zero bell works.
type bell struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait returns what is closed when it rings next.
func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// ring wakes those who wait.
func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}
