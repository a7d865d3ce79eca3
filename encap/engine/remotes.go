package engine

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// remotes finds the index of a peer by its outer address: a hash table of small
// pages. Two of them may share pages, so that a change costs no more than the copy of a
// page and of short lists.
type remotes struct {
	mul   uint64 // odd and random, so that nobody can choose addresses that meet on one page
	shift uint8
	books []*book // a power of two
	len   int
}

// book is some pages, so that the list of all is short.
type book [1 << bookBits][]remote

const bookBits = 6

type remote struct {
	key   remoteKey
	index int32
}

// remoteKey is an outer IPv4 address, and of a peer over UDP its port and, on top, the number
// of the socket: protocol 41 has none, and UDP has no port 0.
type remoteKey uint64

// overUDP reports whether a key is that of a peer over UDP.
func (k remoteKey) overUDP() bool { return k&0xffff != 0 }

func keyOf(a [4]byte) remoteKey { return keyAt(a, 0) }

func keyAt(a [4]byte, port uint16) remoteKey {
	return remoteKey(binary.BigEndian.Uint32(a[:]))<<16 | remoteKey(port)
}

// by is a key of a peer over UDP with the number of the socket.
func (k remoteKey) by(socket uint16) remoteKey { return k | remoteKey(socket)<<48 }

// pageLen is how long the pages are on the average at most.
const pageLen = 8

// makeRemotes makes an empty one with room for n.
func makeRemotes(n int) remotes {
	log := max(bits.Len(uint(n/pageLen)), bookBits)
	r := remotes{mul: rand.Uint64() | 1, shift: uint8(64 - log), books: make([]*book, 1<<(log-bookBits))}
	for i := range r.books {
		r.books[i] = new(book)
	}
	return r
}

// place is the number of the book of a key, and of the page in it.
func (r *remotes) place(key remoteKey) (book, page uint64) {
	i := uint64(key) * r.mul >> r.shift
	return i >> bookBits, i & (1<<bookBits - 1)
}

func (r *remotes) page(key remoteKey) *[]remote {
	book, page := r.place(key)
	return &r.books[book][page]
}

func (r *remotes) get(key remoteKey) (int32, bool) {
	page := *r.page(key)
	for i := range page {
		if page[i].key == key {
			return page[i].index, true
		}
	}
	return 0, false
}

// put adds a key that is not in r. Only for one whose pages nobody else has.
func (r *remotes) put(key remoteKey, index int32) {
	if r.len >= len(r.books)<<bookBits*pageLen {
		*r = r.resized(2 * r.len)
	}
	p := r.page(key)
	*p = append(*p, remote{key, index})
	r.len++
}

// cut takes a key that is in r out of it. Only for one whose pages nobody else has.
func (r *remotes) cut(key remoteKey) {
	p := r.page(key)
	*p = slices.DeleteFunc(*p, func(e remote) bool { return e.key == key })
	r.len--
}

// own makes a page one that nobody else has, and the list of pages too.
func (r *remotes) own(key remoteKey) {
	r.books = slices.Clone(r.books)
	book, _ := r.place(key)
	c := *r.books[book]
	r.books[book] = &c
	p := r.page(key)
	*p = slices.Clone(*p)
}

// resized is a copy with room for n.
func (r *remotes) resized(n int) remotes {
	next := makeRemotes(n)
	for _, book := range r.books {
		for _, page := range book {
			for _, e := range page {
				next.put(e.key, e.index)
			}
		}
	}
	return next
}
