package store

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// NewID makes a UUIDv7 (RFC 9562, Sections 5.7 and 6.2, method 3, from memory): 48 bits
// of Unix time in milliseconds and 12 of the fraction, so that newer ones sort later,
// and 62 random ones.
func NewID(now time.Time) string {
	var b [16]byte
	fraction := uint64(now.Nanosecond()%1e6) * 4096 / 1e6
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixMilli())<<16|7<<12|fraction)
	rand.Read(b[8:])        // never fails: crypto/rand ends the program first
	b[8] = b[8]&0x3f | 0x80 // variant of RFC 9562
	var text [36]byte
	hex.Encode(text[0:8], b[0:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:36], b[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
