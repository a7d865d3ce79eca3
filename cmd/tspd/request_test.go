package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/exit"
	"sixin4/tsp/broker/store"
)

// TestRequests goes through the sign-ups of the web pages.
func TestRequests(t *testing.T) {
	d := newDesk(t)
	broker := d.open()
	ask := func(name string, n byte) store.Signup {
		t.Helper()
		s, err := broker.AddSignup(t.Context(), store.Signup{
			Name: name, Email: name + "@example.net", Token: bytes.Repeat([]byte{n}, 32), PrefixLen: 64, MaxTunnels: 1,
			Expires: time.Now().Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	alice, bob, second := ask("alice", 1), ask("bob", 2), ask("bob", 3)
	list := strings.Split(d.run("user requests"), "\n")
	if len(list) != 5 || !strings.HasPrefix(list[0], "NAME ") || !strings.HasPrefix(list[1], "alice  alice@example.net  ") ||
		!strings.HasSuffix(list[1], "  waits  "+alice.ID) {
		t.Errorf("list:\n%s", strings.Join(list, "\n"))
	}
	until := time.Now().Add(approvalTime).Format(time.DateOnly)
	d.says("user approve alice --prefix-length 48 --max-tunnels 2",
		"approved alice: prefix /48, 2 tunnels; the link shows the password once, until "+until+"\n")
	s, err := broker.SignupByToken(t.Context(), alice.Token)
	if err != nil || !s.Approved || s.PrefixLen != 48 || s.MaxTunnels != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	d.fails("user approve bob", exit.Failure, `2 people want the name "bob": give the ID of one (tspd user requests shows them)`)
	d.says("user reject "+bob.ID, "rejected bob\n")
	t.Setenv("SIXIN4_PASSWORD", password)
	d.says("user add bob --operator", "added bob: no prefix, 1 tunnel, operator\n")
	d.says("user set bob --operator=false", "changed bob: no prefix, 1 tunnel\n")
	d.fails("user approve bob", exit.Failure, `user "bob" exists already (tspd user reject bob; the person may sign up with another name)`)
	d.fails("user approve carol", exit.Failure, `nobody of the name "carol" waits (tspd user requests shows who does)`)
	d.fails("user reject alice", exit.Failure, `nobody of the name "alice" waits (tspd user requests shows who does)`)

	var all struct{ Requests []map[string]any }
	if err := json.Unmarshal([]byte(d.run("user requests --json")), &all); err != nil || len(all.Requests) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	if r := all.Requests[0]; r["name"] != "alice" || r["approved"] != true || all.Requests[1]["id"] != second.ID {
		t.Errorf("requests are %v", all.Requests)
	}
}
