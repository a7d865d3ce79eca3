package keepalive

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestForgedAnswers: what is not the answer to a request counts for nothing.
func TestForgedAnswers(t *testing.T) {
	tests := []struct {
		name string
		edit func(r *received)
		good bool
	}{
		{"as it should be", func(*received) {}, true},
		{"with a zone", func(r *received) { r.from = r.from.WithZone("six0") }, true},
		{"from another source", func(r *received) { r.from = near }, false},
		{"from nowhere", func(r *received) { r.from = netip.Addr{} }, false},
		{"a request", func(r *received) { r.message[0] = typeRequest }, false},
		{"an error", func(r *received) { r.message[0] = 1 }, false},
		{"another code", func(r *received) { r.message[1] = 1 }, false},
		{"any checksum", func(r *received) { r.message[2] = 0xff }, true}, // the kernel's business
		{"another identifier", func(r *received) { r.message[4]++ }, false},
		{"another sequence number", func(r *received) { r.message[7]++ }, false},
		{"the first byte of the data", func(r *received) { r.message[headerLen] ^= 1 }, false},
		{"the last byte of the data", func(r *received) { r.message[messageLen-1] ^= 0x80 }, false},
		{"data cut off", func(r *received) { r.message = r.message[:messageLen-1] }, false},
		{"data added", func(r *received) { r.message = append(r.message, 0) }, false},
		{"much data added", func(r *received) { r.message = append(r.message, make([]byte, 2000)...) }, false},
		{"a header alone", func(r *received) { r.message = r.message[:headerLen] }, false},
		{"four bytes", func(r *received) { r.message = r.message[:4] }, false},
		{"nothing", func(r *received) { r.message = nil }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeConn(func(c *fakeConn, n int, message []byte) error {
					r := replyTo(message)
					tt.edit(&r)
					c.in <- r
					return nil
				})
				o := simulate(t, Config{}, c, 20*time.Second)
				if good := o.err == nil && o.stats.Answered == 1; good != tt.good || !good && o.stats.Answered != 0 {
					t.Errorf("%v, %+v; want it taken: %t", o.err, o.stats, tt.good)
				}
			})
		})
	}
}

// TestRepeatedAnswers: each request is answered once, and an answer kept from an
// earlier one does not answer a later one.
func TestRepeatedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeConn(func(c *fakeConn, n int, message []byte) error {
			for range 3 {
				c.in <- replyTo(c.requests[0])
			}
			return nil
		})
		o := simulate(t, Config{}, c, time.Hour)
		if !errors.Is(o.err, ErrDead) || o.stats.Answered != 1 || o.ended != 45*time.Second {
			t.Errorf("ended after %v: %v, %+v", o.ended, o.err, o.stats)
		}
	})
}

// TestRequests: what they look like, and that nobody can know the next one.
func TestRequests(t *testing.T) {
	ids := map[string]bool{}
	nonces := map[string]bool{}
	for range 4 {
		synctest.Test(t, func(t *testing.T) {
			c := newFakeConn(func(c *fakeConn, n int, message []byte) error {
				c.in <- replyTo(message)
				return nil
			})
			simulate(t, Config{Interval: time.Second}, c, 299500*time.Millisecond)
			for i, m := range c.requests {
				want := appendMessage(nil, 128, uint16(m[4])<<8|uint16(m[5]), uint16(i), m[8:])
				if len(m) != 24 || string(m) != string(want) {
					t.Fatalf("request %d is % x", i, m)
				}
				ids[string(m[4:6])] = true
				nonces[string(m[8:])] = true
			}
		})
	}
	if len(ids) < 2 {
		t.Error("four runs have one identifier")
	}
	if len(nonces) != 4*300 {
		t.Errorf("%d requests have %d nonces", 4*300, len(nonces))
	}
}

// TestSequenceWraps: an identifier is good for more than 65536 requests.
func TestSequenceWraps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeConn(func(c *fakeConn, n int, message []byte) error {
			c.in <- replyTo(message)
			return nil
		})
		o := simulate(t, Config{Interval: time.Second}, c, 65539500*time.Millisecond)
		if o.err != nil || o.stats.Answered != 65540 {
			t.Errorf("%v, %+v", o.err, o.stats)
		}
	})
}
