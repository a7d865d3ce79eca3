package main

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/exit"
	"sixin4/tsp"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/postgres"
	"sixin4/tsp/broker/store/storetest"
)

// asURL is a DSN of storetest as --state has it.
func asURL(dsn string) string {
	parts := make(map[string]string)
	for _, field := range strings.Fields(dsn) {
		key, value, _ := strings.Cut(field, "=")
		parts[key] = value
	}
	u := url.URL{Scheme: "postgres", User: url.User(parts["user"]), Path: "/" + parts["dbname"], RawQuery: url.Values{"host": {parts["host"]}}.Encode()}
	return u.String()
}

// TestServePostgres: two brokers share one database. Each carries what is up under its
// own name, and leaves alone what is up under another.
func TestServePostgres(t *testing.T) {
	topo, database := namespace(t), storetest.Postgres(t)
	d, state := newDesk(t), asURL(database(t))
	file := d.write("tspd.toml", "state = \""+state+"\"\nkey-file = \""+d.path("tspd.key")+"\"\niterations = 4096\nprefix = \"2001:db8:1000::/36\"\n")
	t.Setenv("SIXIN4_PASSWORD", password)
	if code, _, stderr := tspd("user", "add", "alice", "--legacy-login", "--config", file); code != exit.OK {
		t.Fatalf("user add: %d, %s", code, stderr)
	}
	s, err := postgres.Open(t.Context(), postgres.Config{DSN: state, Config: store.Config{Pool: netip.MustParsePrefix("2001:db8:1000::/36")}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mine, others := upUnder(t, s, "b1", "192.0.2.77"), upUnder(t, s, "b3", "192.0.2.78")

	b1 := serveIn(t, topo.B, "--config", file, "--node", "b1", "--socket", t.TempDir()+"/s")
	b2 := serveIn(t, topo.A, "--config", file, "--node", "b2", "--socket", t.TempDir()+"/s", "--listen", topo.AddrA.String())
	for _, b := range []*broker{b1, b2} {
		if !strings.HasPrefix(b.ready, "ready: ") {
			b.code()
			t.Fatalf("standard error:\n%s", b.stderr.String())
		}
	}
	if code, stdout, stderr := tspd("user", "list", "--config", file); code != exit.OK || !strings.Contains(stdout, "alice") {
		t.Errorf("user list: %d, %q, %s", code, stdout, stderr)
	}
	if code, stdout, _ := tspd("tunnel", "list", "--config", file); code != exit.OK || strings.Count(stdout, " up ") != 2 {
		t.Errorf("tunnel list: %d, %s", code, stdout)
	}
	b2.stop()
	b1.stop()
	if !strings.Contains(b1.stderr.String(), "tunnels=1") || strings.Contains(b2.stderr.String(), "go on") {
		t.Errorf("the first is to carry one, the second none:\n%s\n%s", b1.stderr.String(), b2.stderr.String())
	}
	for _, want := range []store.Lease{mine, others} {
		if l, err := s.Lease(t.Context(), want.ID); err != nil || l.State != store.Up || l.Node != want.Node || l.Epoch != want.Epoch {
			t.Errorf("%+v, %v; want it up as it was at %s", l, err, want.Node)
		}
	}
	d.write("tspd.key", strings.Repeat("x", 32))
	b3 := serveIn(t, topo.B, "--config", file, "--socket", t.TempDir()+"/s")
	if code := b3.code(); code != exit.Config || !strings.Contains(b3.stderr.String(), "tspd key replace") {
		t.Errorf("with another key: %d, %s", code, b3.stderr.String())
	}
}

// upUnder has a tunnel of nobody up under the name of a broker.
func upUnder(t *testing.T, s store.Store, node, outer string) store.Lease {
	t.Helper()
	at, expires := netip.AddrPortFrom(netip.MustParseAddr(outer), 0), time.Now().Add(time.Hour)
	l, err := s.Reserve(t.Context(), store.Want{From: at, Expires: expires})
	if err == nil {
		l, err = s.Activate(t.Context(), store.Activation{ID: l.ID, Epoch: l.Epoch, Node: node, Type: tsp.V6V4, Outer: at, Expires: expires})
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}
