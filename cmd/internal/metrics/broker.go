package metrics

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
)

// Broker is what a broker shows besides its tunnel, which is that of all clients.
type Broker struct {
	Stats    broker.Stats
	Leases   map[store.State]int // nil when the database does not answer
	Usage    store.Usage
	Draining bool

	Unwritable bool // the database answers, and takes no changes
}

// Broker adds a broker. Users have no samples of their own.
func (p *Page) Broker(b Broker) {
	p.Gauge("sixin4_broker_db_up", "Whether the database answers and takes changes: 1 or 0.",
		truth(b.Leases != nil && !b.Unwritable))
	p.Gauge("sixin4_broker_draining", "Whether no new tunnels are given: 1 or 0.", truth(b.Draining))
	if b.Leases != nil {
		for _, state := range []store.State{store.Offered, store.Up, store.Down, store.Quarantined} {
			p.Gauge("sixin4_broker_tunnels", "Leases by state.", float64(b.Leases[state]), "state", string(state))
		}
	}
	p.pool(b.Usage)
	p.sessions(b.Stats)
	p.Requests(results(b.Stats))
	for _, mechanism := range sorted(b.Stats.AuthFailures) {
		p.Counter("sixin4_broker_auth_failures_total", "Logins that were refused, by mechanism.",
			b.Stats.AuthFailures[mechanism], "mechanism", mechanism)
	}
	for _, reason := range sorted(b.Stats.Drops) {
		p.Counter("sixin4_broker_drop_requests_total", "Connections and messages of clients that got no answer, by reason.",
			b.Stats.Drops[reason], "reason", string(reason))
	}
	p.Counter("sixin4_broker_echoes_total", "Echo requests of TSP that were answered.", b.Stats.Echoes)
}

func (p *Page) pool(u store.Usage) {
	pool := []string{"pool", u.Pool.String()}
	p.Gauge("sixin4_broker_prefix_pool_free", "Networks of /64 that are left for prefixes.", float64(u.Free), pool...)
	p.Gauge("sixin4_broker_pool_addresses", "Addresses of tunnels that are taken.", float64(u.Addresses), pool...)
	p.Gauge("sixin4_broker_pool_prefixes", "Prefixes that are taken.", float64(u.Prefixes), pool...)
	if u.Largest > 0 {
		p.Gauge("sixin4_broker_prefix_pool_largest_length", "Length in bits of the largest prefix that is left.", float64(u.Largest), pool...)
	}
}

func (p *Page) sessions(s broker.Stats) {
	for _, transport := range []string{"tcp", "udp"} {
		p.Counter("sixin4_broker_sessions_total", "Sessions of TSP that began.", s.Sessions[transport], "transport", transport)
	}
	const connections = "TCP connections: of clients that have no tunnel yet, and of those that have."
	p.Gauge("sixin4_broker_connections", connections, float64(s.Conns), "state", "negotiating")
	p.Gauge("sixin4_broker_connections", connections, float64(s.Idle), "state", "tunnel")
}

// results are the outcomes of requests. What is counted as a success is a tunnel
// that was accepted.
func results(s broker.Stats) map[string]uint64 {
	byResult := map[string]uint64{result(tsp.Success): s.Tunnels}
	for code, n := range s.Codes {
		byResult[result(code)] += n
	}
	return byResult
}

func result(c tsp.Code) string { return strconv.Itoa(int(c)) }

// sorted are the keys of a map, so that one page looks like the next.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
