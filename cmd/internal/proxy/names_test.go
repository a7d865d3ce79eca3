package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/things-go/go-socks5/statute"
)

// slow is a network whose names are found when the test says so: those that begin with
// "none" as not there.
type slow struct {
	Network
	mu    sync.Mutex
	asked []string
	found chan struct{} // closed
}

func (s *slow) Resolve(ctx context.Context, _, host string) ([]netip.Addr, error) {
	s.mu.Lock()
	s.asked = append(s.asked, host)
	s.mu.Unlock()
	select {
	case <-s.found:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if strings.HasPrefix(host, "none") {
		return nil, errors.New("nobody knows")
	}
	return []netip.Addr{far}, nil
}

// notebook is a socket that keeps what it is given.
type notebook struct {
	net.PacketConn
	sent []string
}

func (n *notebook) WriteTo(b []byte, to net.Addr) (int, error) {
	n.sent = append(n.sent, fmt.Sprintf("%s %s", to, b))
	return len(b), nil
}

// namesWorld is an association whose names are looked up by slow.
func namesWorld(t *testing.T) (a *association, s *slow, out *notebook) {
	t.Helper()
	s, out = &slow{found: make(chan struct{})}, new(notebook)
	server, err := New(Config{Network: s})
	if err != nil {
		t.Fatal(err)
	}
	return &association{
		s: server, far: out,
		targets: make(map[netip.AddrPort]bool), names: make(map[string]*name),
	}, s, out
}

func (a *association) say(ctx context.Context, host, text string) error {
	d := statute.Datagram{DstAddr: statute.AddrSpec{FQDN: host, Port: 7}, Data: []byte(text)}
	if addr, err := netip.ParseAddr(host); err == nil {
		d.DstAddr = statute.AddrSpec{IP: addr.AsSlice(), Port: 7}
	}
	return a.send(ctx, &d)
}

// TestNames: a name that is being looked up holds up nothing but what goes there, and that comes in order behind it.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s, out := namesWorld(t)
		for i := range maxWaiting + 1 {
			err := a.say(t.Context(), "slow.example.net", fmt.Sprint(i))
			if (err != nil) != (i == maxWaiting) {
				t.Errorf("datagram %d: %v", i, err)
			}
		}
		if err := a.say(t.Context(), dead.String(), "literal"); err != nil {
			t.Error(err)
		}
		for i := range maxLookups {
			err := a.say(t.Context(), fmt.Sprintf("slow%d.example.net", i), "")
			if (err != nil) != (i == maxLookups-1) {
				t.Errorf("name %d: %v", i, err)
			}
		}
		synctest.Wait()
		at := "[" + far.String() + "]:7 "
		want := []string{"[" + dead.String() + "]:7 literal"}
		if !slices.Equal(out.sent, want) {
			t.Errorf("before: %q", out.sent)
		}
		close(s.found)
		a.running.Wait()
		for i := range maxWaiting {
			want = append(want, at+fmt.Sprint(i))
		}
		if err := a.say(t.Context(), "slow.example.net", "late"); err != nil {
			t.Error(err)
		}
		got := slices.DeleteFunc(out.sent, func(s string) bool { return s == at }) // of the other names
		if want = append(want, at+"late"); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestNamesFail: a failure holds for a moment, and makes room.
func TestNamesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s, out := namesWorld(t)
		close(s.found)
		say := func(host string) error {
			err := a.say(t.Context(), host, "x")
			a.running.Wait()
			return err
		}
		first, second := say("none.example.net"), say("none.example.net")
		if len(s.asked) != 1 || first != nil || second == nil {
			t.Errorf("asked %q; %v, %v", s.asked, first, second)
		}
		time.Sleep(failedTime)
		if err := say("none.example.net"); len(s.asked) != 2 || err != nil {
			t.Errorf("asked %q; %v", s.asked, err)
		}
		for i := range maxTargets - 1 {
			if err := say(fmt.Sprintf("none%d.example.net", i)); err != nil {
				t.Fatal(i, err)
			}
		}
		if err := say("slow.example.net"); err == nil {
			t.Error("there was room for one more")
		}
		time.Sleep(failedTime)
		if err := say("slow.example.net"); err != nil || len(a.names) != 1 || len(out.sent) != 1 {
			t.Errorf("%v, %d names, sent %q", err, len(a.names), out.sent)
		}
	})
}
