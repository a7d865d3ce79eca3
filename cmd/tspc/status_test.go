package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"sixin4/cmd/internal/exit"
	"sixin4/encap/keepalive"
	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/sasl"
)

func TestStatus(t *testing.T) {
	at := func(stage client.Stage, err error) error {
		// As daemon.Connect hands it on.
		return fmt.Errorf("tsp: %w", &client.Error{Stage: stage, Server: "192.0.2.1", Err: err})
	}
	says := func(stage client.Stage, code tsp.Code) error {
		return at(stage, fmt.Errorf("version 2.0.2: %w", &tsp.Error{Code: code}))
	}
	call := func(op, name string, errno error) error {
		return &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError(name, errno)}
	}
	wrap := func(err error) error { return fmt.Errorf("wrapped: %w", err) }
	plain := errors.New("something")
	for _, tt := range []struct {
		name string
		err  error
		at   situation
		want int
	}{
		{"fine", nil, situation{up: true, stopped: true}, 0},
		{"configuration", wrong("no"), situation{}, 3},
		{"configuration, by the file", exit.With(exit.Config, plain), situation{}, 3},
		{"configuration, by an option", exit.With(exit.Usage, plain), situation{}, 3},
		{"client address", at(client.Connect, call("dial", "bind", syscall.EADDRNOTAVAIL)), situation{}, 5},
		{"log", failure{statusLog, plain}, situation{}, 6},
		{"last server", failure{statusLastServer, plain}, situation{}, 7},
		{"resolve", at(client.Resolve, &net.DNSError{Err: "no such host"}), situation{}, 8},
		{"connect", at(client.Connect, call("dial", "connect", syscall.ECONNREFUSED)), situation{}, 9},
		{"no route", at(client.Connect, call("dial", "connect", syscall.ENETUNREACH)), situation{}, 9},
		{"no answer", at(client.Connect, tsp.ErrNoAnswer), situation{}, 9},
		{"no socket", at(client.Connect, call("dial", "socket", syscall.EMFILE)), situation{}, 10},
		{"closed half way", at(client.Create, io.ErrUnexpectedEOF), situation{}, 10},
		{"silent half way", at(client.Authenticate, tsp.ErrNoAnswer), situation{}, 10},
		{"version", says(client.Hello, tsp.BadVersion), situation{}, 11},
		{"busy", says(client.Hello, tsp.Busy), situation{}, 12},
		{"busy later", says(client.Create, tsp.Busy), situation{}, 13},
		{"refused", says(client.Create, tsp.PrefixAnonymous), situation{}, 13},
		{"refused at hello", says(client.Hello, tsp.ServerError), situation{}, 13},
		{"refused at accept", says(client.Accept, tsp.ServerError), situation{}, 13},
		{"no broker", at(client.Hello, wrap(tsp.ErrMalformed)), situation{}, 13},
		{"refused anonymous", says(client.Authenticate, tsp.AuthFailed), situation{anonymous: true}, 13},
		{"redirection", at(client.Redirect, plain), situation{}, 14},
		{"redirection without list", says(client.Create, tsp.Redirection), situation{}, 14},
		{"mode", at(client.Offer, plain), situation{}, 15},
		{"authentication", says(client.Authenticate, tsp.AuthFailed), situation{}, 16},
		{"authentication of the broker", at(client.Authenticate, wrap(sasl.ErrAuth)), situation{}, 16},
		{"no sense in the mechanism", at(client.Authenticate, wrap(sasl.ErrProtocol)), situation{}, 16},
		{"mechanism", at(client.Authenticate, wrap(sasl.ErrNoMechanism)), situation{}, 17},
		{"setup", at(client.Setup, plain), situation{}, 18},
		{"setup, whatever was wrong", at(client.Setup, exit.With(exit.Config, plain)), situation{}, 18},
		{"no privilege", exit.With(exit.Permission, plain), situation{}, 18},
		{"not undone", plain, situation{up: true, stopped: true}, 18},
		{"tunnel data", at(client.Create, wrap(tsp.ErrBadTunnel)), situation{}, 19},
		{"no XML", at(client.Create, wrap(tsp.ErrMalformed)), situation{}, 19},
		{"keepalive", at(client.Keepalive, plain), situation{}, 20},
		{"silent", at(client.Keepalive, wrap(keepalive.ErrDead)), situation{}, 21},
		{"expired", at(client.Expired, plain), situation{}, 22},
		{"tunnel", plain, situation{up: true}, 23},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := statusOf(tt.err, tt.at); got != tt.want {
				t.Errorf("exit status %d, want %d", got, tt.want)
			}
			if !strings.Contains(help, fmt.Sprintf("\n  %2d  ", tt.want)) {
				t.Errorf("-h does not tell about %d", tt.want)
			}
		})
	}
}
