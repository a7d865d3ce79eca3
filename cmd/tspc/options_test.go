package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		args string
		want options
	}{
		{"", options{}},
		{"-vf tspc.conf", options{verbose: 1, file: "tspc.conf"}},
		{"-vftspc.conf", options{verbose: 1, file: "tspc.conf"}},
		{"-v -f tspc.conf", options{verbose: 1, file: "tspc.conf"}},
		{"-f tspc.conf -v", options{verbose: 1, file: "tspc.conf"}},
		{"-vvvf tspc.conf", options{verbose: 3, file: "tspc.conf"}},
		{"-v -vv", options{verbose: 3}},
		{"-vvvvv", options{verbose: 5}},
		{"-nvf gogoc.conf", options{foreground: true, verbose: 1, file: "gogoc.conf"}},
		{"-nby", options{foreground: true, bail: true, accept: true}},
		{"-bi six0 -u tun", options{bail: true, iface: "six0", udpIface: "tun"}},
		{"-f -v", options{file: "-v"}},
		{"-f a -f b", options{file: "b"}},
		{"-s eth0", options{source: "eth0"}},
		{"-s192.0.2.1", options{source: "192.0.2.1"}},
		{"-r 10", options{retry: 10 * time.Second}},
		{"-vr3600", options{verbose: 1, retry: time.Hour}},
		{"-r 0", options{retry: time.Second}},
		{"-h", options{help: true}},
		{"-?", options{help: true}},
		{"-vh", options{verbose: 1, help: true}},
		{"--help", options{help: true}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			got, err := parseOptions(strings.Fields(tt.args))
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestOptionErrors(t *testing.T) {
	for _, tt := range []struct {
		name    string
		args    []string
		want    string
		unknown bool
	}{
		{"unknown", []string{"-x"}, `unknown option "-x"`, true},
		{"unknown, joined", []string{"-vqf", "a"}, `unknown option "-q"`, true},
		{"unknown, not ASCII", []string{"-vé"}, `unknown option "-é"`, true},
		{"unknown, long", []string{"--verbose"}, `unknown option "--verbose"`, true},
		{"no value", []string{"-vf"}, "-f: a value is missing (tspc -h shows examples)", false},
		{"empty value", []string{"-f", ""}, "-f: an empty value (tspc -h shows examples)", false},
		{"an argument", []string{"tspc.conf"}, `unexpected argument "tspc.conf": every value belongs to an option (tspc -h shows examples)`, false},
		{"a dash", []string{"-"}, `unexpected argument "-": every value belongs to an option (tspc -h shows examples)`, false},
		{"two dashes", []string{"--"}, `unexpected argument "--": every value belongs to an option (tspc -h shows examples)`, false},
		{"no number", []string{"-r", "soon"}, `-r "soon": 0 to 3600 seconds belong here`, false},
		{"number too large", []string{"-r3601"}, `-r "3601": 0 to 3600 seconds belong here`, false},
		{"number too small", []string{"-r", "-1"}, `-r "-1": 0 to 3600 seconds belong here`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseOptions(tt.args)
			if err == nil || err.Error() != tt.want {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			var unknown unknownOption
			if errors.As(err, &unknown) != tt.unknown {
				t.Errorf("an unknown option: %v, want %v", !tt.unknown, tt.unknown)
			}
			want := statusConfiguration
			if tt.unknown {
				want = statusFine
			}
			var out, errs bytes.Buffer
			if got := (process{stdout: &out, stderr: &errs}).run(t.Context(), tt.args); got != want {
				t.Errorf("exit status %d, want %d", got, want)
			}
			if first, rest, _ := strings.Cut(errs.String(), "\n"); first != "tspc: "+tt.want || tt.unknown != (rest == usage) {
				t.Errorf("standard error: %s", errs.String())
			}
			if out.Len() > 0 {
				t.Errorf("standard output %q, want none", out.String())
			}
		})
	}
}

// TestHelp: every option and every exit status is explained.
func TestHelp(t *testing.T) {
	for _, arg := range []string{"-h", "-?", "-vh", "--help"} {
		var out, errs bytes.Buffer
		if got := (process{stdout: &out, stderr: &errs}).run(t.Context(), []string{arg}); got != statusFine || errs.Len() > 0 {
			t.Errorf("%s: exit status %d, %s", arg, got, errs.String())
		}
		if out.String() != help {
			t.Errorf("%s prints %q", arg, out.String())
		}
	}
	for _, letter := range "vfiusrnbyh" {
		if !strings.Contains(help, "\n  -"+string(letter)+" ") && !strings.Contains(help, "\n  -"+string(letter)+",") {
			t.Errorf("-%c is not explained", letter)
		}
	}
	for _, line := range strings.Split(help, "\n") {
		if len(line) > 88 {
			t.Errorf("%d characters: %s", len(line), line)
		}
	}
}
