//go:build 386 || amd64 || arm || arm64 || loong64 || mipsle || mips64le || ppc64le || riscv64

package kernelpath

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/cilium/ebpf"
)

// putPeer lets packets in before any go out.
func (p *path) putPeer(peer Peer) error {
	if err := peer.check(); err != nil {
		return fmt.Errorf("kernel path: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	key := peer.ends()
	if before, ok := p.peers[key]; ok && !slices.Equal(before.Prefixes, peer.Prefixes) {
		if err := p.takeOut(key, before); err != nil {
			return err
		}
	}
	value := peer.forKernel()
	err := p.maps[mapPeers].Update(key, &value, ebpf.UpdateNoExist)
	if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		return fmt.Errorf("kernel path: add a peer: %w", err)
	}
	p.peers[key] = peer
	for _, prefix := range peer.Prefixes {
		w := way{key, uint32(peer.Link), uint32(peer.MTU), uint32(truth(peer.Trial))}
		if err := p.maps[mapRoutes].Put(newRoute(prefix), w); err != nil {
			return errors.Join(fmt.Errorf("kernel path: add a route: %w", err), p.takeOut(key, peer))
		}
	}
	return nil
}

func (p *path) removePeer(local, remote netip.AddrPort) error {
	if !local.Addr().Is4() || !remote.Addr().Is4() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	key := newEnds(local.Addr(), local.Port(), remote.Addr(), remote.Port())
	if peer, ok := p.peers[key]; ok {
		return p.takeOut(key, peer)
	}
	return nil
}

// takeOut removes what the programs know of a peer. A route that is another's by now stays.
func (p *path) takeOut(key ends, peer Peer) (err error) {
	delete(p.peers, key)
	for _, prefix := range peer.Prefixes {
		var w way
		if p.maps[mapRoutes].Lookup(newRoute(prefix), &w) == nil && w.Ends == key {
			err = errors.Join(err, ignoreMissing(p.maps[mapRoutes].Delete(newRoute(prefix))))
		}
	}
	err = errors.Join(err, ignoreMissing(p.maps[mapPeers].Delete(key)))
	if err != nil {
		return fmt.Errorf("kernel path: remove a peer: %w", err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

func (p *path) statsOf(local, remote netip.AddrPort) (s Stats, ok bool) {
	if !local.Addr().Is4() || !remote.Addr().Is4() {
		return s, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := newEnds(local.Addr(), local.Port(), remote.Addr(), remote.Port())
	if _, there := p.peers[key]; !there || p.closed {
		return s, false
	}
	var k peer
	if p.maps[mapPeers].Lookup(key, &k) != nil {
		return s, false
	}
	s.Tx, s.Rx = Count{k.TxPackets, k.TxBytes}, Count{k.RxPackets, k.RxBytes}
	s.LastHeard, _ = wallClock(k.Heard) // the clock is there
	return s, true
}
