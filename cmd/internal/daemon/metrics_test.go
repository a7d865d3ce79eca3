package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/metrics"
	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/client"
)

func TestCarries(t *testing.T) {
	for _, tt := range []struct {
		tunnel control.Tunnel
		want   string
	}{
		{control.Tunnel{State: "up"}, "<nil>"},
		{control.Tunnel{State: "up", Reason: "draining"}, "<nil>"},
		{control.Tunnel{State: "connecting"}, "connecting"},
		{control.Tunnel{State: "down", Reason: "the interface is down"}, "down: the interface is down"},
	} {
		if got := fmt.Sprint(carries(tt.tunnel)); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.tunnel, got, tt.want)
		}
	}
}

func TestHearsay(t *testing.T) {
	refused := func(stage client.Stage, err error) client.Event {
		return client.Failed{Err: &client.Error{Stage: stage, Err: err}}
	}
	var h hearsay
	for _, e := range []client.Event{
		client.Connecting{}, refused(client.Connect, context.DeadlineExceeded), refused(client.Connect, errors.New("nobody")),
		refused(client.Create, &tsp.Error{Code: tsp.Busy}), client.Failed{Err: errors.New("of another kind")},
		client.Up{}, client.AddressChanged{}, client.Lost{}, client.Up{},
	} {
		h.event(e)
	}
	want := map[string]uint64{"connect": 2, "530": 1, "other": 1, "200": 2}
	if got := h.requests(); !maps.Equal(got, want) {
		t.Errorf("results %v, want %v", got, want)
	}
	if got, want := h.path(), (metrics.Path{EndpointChanges: 1}); got != want {
		t.Errorf("path %+v, want %+v", got, want)
	}
}

// TestDatabaseGone: a broker without its database is not ready, says so, and has a page.
func TestDatabaseGone(t *testing.T) {
	o := newOffice(t)
	var err error
	o.b.server, err = broker.New(broker.Config{Provisioner: o.leases, Accounts: accounts{o.b.store}, Secret: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	g, err := o.request(o.user("alice", 48), "198.51.100.7", tsp.Request{})
	if err == nil {
		err = o.Accept(t.Context(), g)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := o.b.serves(t.Context()); err != nil {
		t.Errorf("with its database: %v", err)
	}
	if counts := o.b.countLeases(t.Context()); counts[store.Up] != 1 || len(counts) != 1 {
		t.Errorf("leases %v, want one that is up", counts)
	}
	if err := o.b.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := o.b.serves(t.Context()); err == nil || err.Error() != "the database does not answer" {
		t.Errorf("without its database: %v", err)
	}
	if counts := o.b.countLeases(t.Context()); counts != nil {
		t.Errorf("leases of a database that is gone: %v", counts)
	}
	var p metrics.Page
	o.b.collect(t.Context(), &p)
	if len(p.Bytes()) == 0 {
		t.Error("no page")
	}
}
