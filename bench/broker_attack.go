package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sixin4/bench/load"
	"sixin4/tsp/sasl"
)

const attackTry = 20 * time.Second // after that a client gives up

// attack measures the way of one client to its tunnel, first in peace and then while
// many others do all that is bad.
func (m *brokers) attack(ctx context.Context) (err error) {
	m.say("attack")
	if err := m.wellBehaved(ctx, "in peace", nil); err != nil {
		return err
	}
	attackers, err := m.startAttackers()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, attackers.Stop()) }()
	if err := sleep(ctx, m.sizes.attackWarm); err != nil {
		return err
	}
	most, cancel := context.WithTimeout(ctx, m.sizes.attackMost)
	defer cancel()
	all := spent(most, attackers)
	if err := m.wellBehaved(ctx, "under attack (less than 1000)", all); err != nil {
		return err
	}
	cancel()
	<-all
	done, err := endAttackers(ctx, attackers)
	if err != nil {
		return err
	}
	m.note("the attack, by a process with a nice value of %d: %d connections at a time that say nothing, %d connections in all, "+
		"%d bad messages over TCP, %d bad datagrams, %d wrong passwords, of which %d were told to come later", attackersNice,
		done.Silent, done.Connections, done.Messages, done.Datagrams, done.Passwords, done.Refused)
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wellBehaved is a client that connects again and again, by UDP and TCP in turns, from
// VERSION to the first answer through its tunnel. It does so until the attack is spent, nil
// for none, and as often as sizes say.
func (m *brokers) wellBehaved(ctx context.Context, when string, spent <-chan struct{}) error {
	ways := []*tries{{name: "UDP"}, {name: "TCP", tcp: true}}
	for i := 0; i < m.sizes.tries || goesOn(spent); i++ {
		for _, w := range ways {
			ms, err := m.usable(ctx, i%min(m.cfg.Tunnels, 50), w.tcp)
			if ctx.Err() != nil {
				return err
			}
			w.add(ms, err)
		}
	}
	for _, w := range ways {
		if len(w.took) == 0 {
			return fmt.Errorf("no client got a tunnel over %s %s", w.name, when)
		}
		m.row("time to a usable tunnel over "+w.name+", SCRAM-SHA-256, "+when, "ms", w.took...)
		m.row("  99 of 100 in", "ms", quantile(w.took, 0.99))
		m.row(fmt.Sprintf("  of %d tries took a second or more", w.n), "", float64(w.late))
	}
	return nil
}

// tries are those of one transport.
type tries struct {
	name    string
	tcp     bool
	took    []float64 // milliseconds, of those that came to an end
	n, late int       // all, and those of a second or more
}

func (t *tries) add(ms float64, err error) {
	t.n++
	if err != nil || ms >= 1000 {
		t.late++
	}
	if err == nil {
		t.took = append(t.took, ms)
	}
}

// goesOn reports whether a channel is there and open.
func goesOn(c <-chan struct{}) bool {
	select {
	case <-c:
		return false
	default:
		return c != nil
	}
}

// usable is the time to a tunnel that carries packets, in milliseconds.
func (m *brokers) usable(ctx context.Context, client int, tcp bool) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, attackTry)
	defer cancel()
	l := loginOf(client, sasl.ScramSHA256)
	l.TCP = tcp
	start := time.Now()
	s, err := m.crowd.Connect(ctx, client, l)
	if err == nil {
		err = m.crowd.Await(ctx, s.Tunnel, worldAddr)
	}
	took := time.Since(start)
	if took >= time.Second {
		m.say("  late: first answer after %v, accepted after %v, usable after %v, in %d sessions", s.Hello, s.Accepted, took, s.Attempts)
	}
	return milliseconds(took), err
}

// guess compares how long the broker takes to refuse users that there are and users
// that there are not, in turns.
func (m *brokers) guess(ctx context.Context) error {
	m.say("guessing")
	for _, mechanism := range []string{sasl.ScramSHA256, sasl.DigestMD5, sasl.Plain} {
		n := m.sizes.guesses
		if mechanism == sasl.Plain {
			n = max(n/10, 1) // each costs what a password costs
		}
		if err := m.guessBy(ctx, mechanism, n); err != nil {
			return err
		}
	}
	return nil
}

func (m *brokers) guessBy(ctx context.Context, mechanism string, tries int) error {
	var first, last [2][]float64 // of those that there are, and are not
	for i := range 2 * tries {
		missing := (i ^ i>>1) & 1 // 0 1 1 0: neither is always the second
		name := userName(i % m.cfg.Users)
		if missing == 1 {
			name = fmt.Sprintf("nobody%04d", i%10_000)
		}
		source := m.cfg.Tunnels + strangers/2 + i/2%(strangers/2)
		a, err := m.crowd.Guess(ctx, source, load.Login{Mechanism: mechanism, User: name, Password: "not the password"})
		if err != nil {
			return err
		}
		first[missing] = append(first[missing], milliseconds(a.First))
		last[missing] = append(last[missing], milliseconds(a.Last))
	}
	if mechanism != sasl.Plain {
		m.compare(mechanism+", first answer", first)
	}
	m.compare(mechanism+", refusal", last)
	return nil
}

func (m *brokers) compare(what string, by [2][]float64) {
	m.row(what+", median, an account that there is", "ms", median(by[0]))
	m.row("  one that there is not", "ms", median(by[1]))
	d, chance := kolmogorov(by[0], by[1])
	m.row(fmt.Sprintf("  Kolmogorov-Smirnov distance (below %.3f is chance, 99 of 100 times)", chance), "", d)
}
