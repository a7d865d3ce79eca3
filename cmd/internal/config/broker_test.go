package config

import (
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/exit"
	"sixin4/tsp"
	"sixin4/tsp/broker/pool"
)

const anyPool = "2001:db8:1000::/36"

func TestBrokerDefaults(t *testing.T) {
	raw := flags("prefix", anyPool)
	got, err := CheckBroker(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := Broker{
		Common: Common{Name: "tspd0", TTL: Field{Value: 64}, Wire: WireAuto},
		Prefix: netip.MustParsePrefix(anyPool),
		Store: Store{
			State: "/var/lib/sixin4/tspd.db", KeyFile: "/var/lib/sixin4/tspd.key",
			Quarantine: 7 * 24 * time.Hour, Iterations: 100_000, Realm: "sixin4",
		},
		Blocked:   Ports{TCP: []uint16{25}},
		Lifetime:  7 * 24 * time.Hour,
		Keepalive: 30 * time.Second, Silence: 15 * time.Minute,
		AnonymousLease: 24 * time.Hour,
		raw:            raw,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("CheckBroker:\n got %+v\nwant %+v", got, want)
	}
}

func TestGoodBroker(t *testing.T) {
	got, err := CheckBroker(flags("prefix", "fd00:1::/64", "listen", "192.0.2.2", "listen", "192.0.2.2:443",
		"anonymous", "true", "configure-host", "true", "state", "b.db", "name", "six0",
		"dns", "2001:db8::53", "dns", "fd00::53", "redirect", "192.0.2.3, 2001:db8::1", "redirect", "[2001:db8::2]:3653,Broker.Example.net",
		"lifetime", "3650d", "keepalive", "60", "silence", "2m", "anonymous-lease", "60s", "quarantine", "0",
		"iterations", "4096", "realm", "broker.example.net", "mtu", "1480"))
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"prefix", got.Prefix, netip.MustParsePrefix("fd00:1::/64")},
		{"listen", got.Listen, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:3653"), netip.MustParseAddrPort("192.0.2.2:443")}},
		{"anonymous", got.Anonymous, true},
		{"configure-host", got.ConfigureHost, true},
		{"state", got.State, "b.db"},
		{"the key is beside it", got.KeyFile, "tspd.key"},
		{"name", got.Name, "six0"},
		{"dns", got.DNS, []netip.Addr{addr("2001:db8::53"), addr("fd00::53")}},
		{"redirect", got.Redirect, []tsp.Broker{{Addr: addr("192.0.2.3")}, {Addr: addr("2001:db8::1")}, {Addr: addr("2001:db8::2")}, {Name: "broker.example.net"}}},
		{"lifetime", got.Lifetime, tsp.MaxLifetime},
		{"keepalive", got.Keepalive, time.Minute},
		{"silence", got.Silence, 2 * time.Minute},
		{"anonymous lease", got.AnonymousLease, time.Minute},
		{"quarantine", got.Quarantine, time.Duration(0)},
		{"iterations", got.Iterations, 4096},
		{"realm", got.Realm, "broker.example.net"},
		{"mtu", int(got.MTU), 1480},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
}

// TestBrokerLimits has good values of what a tunnel may carry.
func TestBrokerLimits(t *testing.T) {
	for _, tt := range []struct {
		key  Key
		text string
		want any
	}{
		{TunnelRate, "0", int64(0)},
		{TunnelRate, "1000", int64(1000)},
		{TunnelRate, "10mbit", int64(10_000_000)},
		{TunnelRate, "2.5Mbit", int64(2_500_000)},
		{TunnelRate, "1kibit", int64(1024)},
		{TunnelRate, "1000gbit", int64(1_000_000_000_000)},
		{BlockPorts, "", Ports{}},
		{BlockPorts, "none", Ports{}},
		{BlockPorts, "25", Ports{TCP: []uint16{25}, UDP: []uint16{25}}},
		{BlockPorts, "465/tcp, 25/tcp,1900/udp,25/tcp", Ports{TCP: []uint16{25, 465}, UDP: []uint16{1900}}},
		{Node, "b1.example.net", "b1.example.net"},
		{RedirectAbove, "5000", 5000},
	} {
		raw := flags("prefix", anyPool, "redirect", "192.0.2.3", string(tt.key), tt.text)
		b, err := CheckBroker(raw)
		if err != nil {
			t.Errorf("--%s %q: %v", tt.key, tt.text, err)
			continue
		}
		got := map[Key]any{TunnelRate: b.TunnelRate, BlockPorts: b.Blocked, Node: b.Node, RedirectAbove: b.RedirectAbove}[tt.key]
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("--%s %q: %v, want %v", tt.key, tt.text, got, tt.want)
		}
	}
}

// TestBlockPortsInAFile is about a list of TOML, whose values are those of a text with commas.
func TestBlockPortsInAFile(t *testing.T) {
	for text, want := range map[string]Ports{
		`[25, "1900/udp"]`:   {TCP: []uint16{25}, UDP: []uint16{25, 1900}},
		`["25/tcp,135/tcp"]`: {TCP: []uint16{25, 135}},
		`["none"]`:           {},
		`[]`:                 {},
		`"25"`:               {TCP: []uint16{25}, UDP: []uint16{25}},
	} {
		raw, err := ReadBroker(write(t, "prefix = \""+anyPool+"\"\nblock-ports = "+text+"\n"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if b, err := CheckBroker(raw); err != nil || !reflect.DeepEqual(b.Blocked, want) {
			t.Errorf("%s: %v, %v; want %v", text, b.Blocked, err, want)
		}
	}
	_, err := ReadBroker(write(t, "block-ports = [[25]]\n"))
	if err == nil || !strings.HasSuffix(err.Error(), ":1: block-ports: a list of texts belongs here") {
		t.Errorf("a list in a list: %v", err)
	}
	path := write(t, "prefix = \""+anyPool+"\"\nblock-ports = [25, \"smtp\"]\n")
	raw, err := ReadBroker(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CheckBroker(raw); err == nil || !strings.HasPrefix(err.Error(), path+`:2: block-ports = "25,smtp": "smtp": not a number`) {
		t.Errorf("a word: %v", err)
	}
}

// TestStateURL is about a database of PostgreSQL; a password is never shown.
func TestStateURL(t *testing.T) {
	const noPassword = "--state postgres://...: a password does not belong here, where others can read it; put it into a file of mode 0600, " +
		"a line HOST:PORT:DATABASE:USER:PASSWORD, and say where that is: ?passfile=FILE, or PGPASSFILE"
	for _, tt := range []struct{ name, state, want string }{
		{"good", "postgres://tspd@db.example.net/tspd?sslmode=verify-full&passfile=/etc/sixin4/pgpass", ""},
		{"the other scheme", "postgresql:///tspd?host=/run/postgresql", ""},
		{"password", "postgres://tspd:secret@db.example.net/tspd", noPassword},
		{"empty password", "postgres://tspd:@db.example.net/tspd", noPassword},
		{"password as a parameter", "postgres://tspd@db.example.net/tspd?password=secret", noPassword},
		{"no URL", "postgres://tspd:secret@[x/", "--state postgres://...: not a URL, like postgres://tspd@db.example.net/tspd?sslmode=verify-full"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := CheckStore(flags("state", tt.state))
			if tt.want != "" {
				wantError(t, err, tt.want, exit.Usage)
				return
			}
			if err != nil || !s.Postgres() || s.State != tt.state || s.KeyFile != "/var/lib/sixin4/tspd.key" {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

// TestSilenceGivesWay: the one of two times that is not given follows the other.
func TestSilenceGivesWay(t *testing.T) {
	for _, tt := range []struct {
		key                Key
		value              string
		keepalive, silence time.Duration
	}{
		{Keepalive, "1h", time.Hour, 2 * time.Hour},
		{Keepalive, "5m", 5 * time.Minute, 15 * time.Minute},
		{Silence, "45s", 22 * time.Second, 45 * time.Second},
		{Silence, "2s", time.Second, 2 * time.Second},
	} {
		b, err := CheckBroker(flags("prefix", anyPool, string(tt.key), tt.value))
		if err != nil || b.Keepalive != tt.keepalive || b.Silence != tt.silence {
			t.Errorf("--%s %s: %v, %v, %v", tt.key, tt.value, b.Keepalive, b.Silence, err)
		}
	}
}

// TestPoolTakesPrefix: what is let through here is what package pool takes.
func TestPoolTakesPrefix(t *testing.T) {
	for bits := range 129 {
		p := netip.PrefixFrom(netip.MustParseAddr("2001:db8::"), bits).Masked()
		_, err := parsePool(p.String())
		_, poolErr := pool.New(p, nil)
		if (err == nil) != (poolErr == nil) {
			t.Errorf("%v: %v, but pool says %v", p, err, poolErr)
		}
	}
}

// TestRedirectionTakesBrokers: what is let through here fits the message.
func TestRedirectionTakesBrokers(t *testing.T) {
	var texts []string
	for i := range maxBrokers - 3 {
		texts = append(texts, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}).String())
	}
	texts = append(texts, "2001:db8::1", "127.0.0.1", strings.Repeat("b.", 120)+"example.net")
	b, err := CheckBroker(flags("prefix", anyPool, "redirect", strings.Join(texts, ",")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tsp.RedirectMessage(b.Redirect, false); err != nil {
		t.Error(err)
	}
}

func TestReferenceBrokerIsTheDefaults(t *testing.T) {
	raw, err := ReadBroker(write(t, ReferenceBroker))
	if err != nil {
		t.Fatal(err)
	}
	raw.Set(Prefix, anyPool)
	got, err := CheckBroker(raw)
	if err != nil {
		t.Fatal(err)
	}
	want, err := CheckBroker(flags("prefix", anyPool))
	if err != nil {
		t.Fatal(err)
	}
	got.raw, want.raw = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the reference parses to\n     %+v\nwant %+v", got, want)
	}
}

// TestReferenceBrokerIsComplete also tries the examples that stand in comments.
func TestReferenceBrokerIsComplete(t *testing.T) {
	var documented []Key
	for _, m := range setting.FindAllStringSubmatch(ReferenceBroker, -1) {
		documented = append(documented, Key(m[1]))
	}
	if !sameKeys(documented, brokerOrder) {
		t.Errorf("documented are %v, want %v", documented, brokerOrder)
	}
	examples := regexp.MustCompile(`(?m)^#([a-z-]+ = )`).ReplaceAllString(ReferenceBroker, "$1")
	raw, err := ReadBroker(write(t, examples))
	if err != nil {
		t.Fatal(err)
	}
	b, err := CheckBroker(raw)
	if err != nil || len(b.Listen) != 2 || len(b.Redirect) != 2 || b.KeyFile != "/etc/sixin4/tspd.key" || len(raw) != len(brokerOrder) {
		t.Errorf("the examples: %+v, %v", b, err)
	}
}
