package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"sixin4/bench/load"
	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/sqlite"
	"sixin4/tsp/client"
	"sixin4/tsp/sasl"
	"sixin4/tun/nstest"
)

var (
	crowdNet  = netip.MustParsePrefix("198.18.0.0/15")
	crowdPool = netip.MustParsePrefix("2001:db8:1000::/36")
	worldAddr = netip.MustParseAddr("2001:db8:f::1") // what clients send to
)

const (
	crowdPassword = "a password of all users"
	crowdRealm    = "sixin4" // the default of tspd
	strangers     = 2000     // clients beside those with a tunnel, for the parts attack and guess
)

// userName is the account of a client.
func userName(i int) string { return fmt.Sprintf("user%06d", i) }

// build makes two hosts; the addresses of all clients are on the first.
func (m *brokers) build(context.Context) (err error) {
	if _, err := os.Stat(m.program); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no program %s (make build makes it)", m.program)
	}
	if m.dir, err = os.MkdirTemp("", "sixin4-bench-"); err != nil {
		return err
	}
	if m.topo, err = nstest.Pair(); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error {
			return m.topo.A.AddAddr("lo", netip.PrefixFrom(crowdNet.Addr().Next(), crowdNet.Bits()).String())
		},
		func() error { return m.topo.B.AddRoute(crowdNet.String(), m.topo.AddrA.String()) },
		func() error { return m.topo.B.AddAddr("lo", worldAddr.String()+"/128") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	m.crowd, err = load.Open(m.topo.A, m.crowdConfig())
	return err
}

// crowdConfig is all clients, strangers at the end: first those that attack.
func (m *brokers) crowdConfig() load.Config {
	return load.Config{
		Server: netip.AddrPortFrom(m.topo.AddrB, client.DefaultPort),
		First:  crowdNet.Addr().Next(), Count: m.cfg.Tunnels + strangers,
	}
}

func (m *brokers) database() string { return filepath.Join(m.dir, "tspd.db") }
func (m *brokers) keyFile() string  { return filepath.Join(m.dir, "tspd.key") }

// usersAtATime share a commit to the disk.
const usersAtATime = 256

// users stores them, each by itself in effect, and as a broker does it.
func (m *brokers) users(ctx context.Context) (err error) {
	m.say("%d users", m.cfg.Users)
	key, err := store.OpenKey(m.keyFile())
	if err != nil {
		return err
	}
	s, err := sqlite.Open(ctx, sqlite.Config{Path: m.database(), Config: store.Config{Key: key}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	keys, err := account.HashPassword("user", crowdPassword, 0)
	if err != nil {
		return err
	}
	start := time.Now()
	err = load.Each(ctx, m.cfg.Users, usersAtATime, func(ctx context.Context, i int) error {
		d := sasl.NewDigest(userName(i), crowdRealm, crowdPassword)
		_, err := s.AddUser(ctx, store.User{Name: userName(i), Scram: keys, Digest: &d, Legacy: true})
		return err
	})
	if err == nil && m.wants(PartUsers) {
		m.row("users stored a second", "1/s", float64(m.cfg.Users)/time.Since(start).Seconds())
	}
	return err
}

// start starts the broker and returns when it is ready.
func (m *brokers) start(ctx context.Context) (err error) {
	m.proc, _, err = startReady(ctx, m.topo.B, []string{m.program, "serve",
		"--prefix", crowdPool.String(), "--listen", m.topo.AddrB.String(), "--anonymous",
		"--metrics", metricsAddr, "--state", m.database(), "--key-file", m.keyFile(), "--socket", filepath.Join(m.dir, "tspd.sock")})
	return err
}

// kill ends the broker as a power failure does.
func (m *brokers) kill(ctx context.Context) error {
	p, err := os.FindProcess(m.proc.PID())
	if err != nil {
		return err
	}
	if err := p.Kill(); err != nil {
		return err
	}
	if err := m.proc.Wait(ctx); ctx.Err() != nil {
		return err
	}
	m.proc = nil
	return nil
}

// loginOf is how a client logs in.
func loginOf(client int, mechanism string) load.Login {
	return load.Login{Mechanism: mechanism, User: userName(client), Password: crowdPassword}
}
