package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"sixin4/cmd/internal/hook"
	"sixin4/tsp"
	"sixin4/tsp/client"
)

// locked is a writer for several goroutines, each line in one Write.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// transcript shows a tunnel to people as the programs of old did. It is a
// daemon.Teller. But for Line, its methods are for one goroutine at a time.
type transcript struct {
	scripted bool // a script is running that sets the tunnel up
	out      io.Writer
	verbose  int
	set      settings
	log      *slog.Logger

	up      bool  // there is a tunnel
	failure error // why there is none, nil when there was no attempt yet
}

// say writes a line, with nothing in it that a terminal would take for a command.
func (t *transcript) say(format string, args ...any) {
	fmt.Fprintln(t.out, safe(fmt.Sprintf(format, args...)))
}

// more is say for those who gave -v.
func (t *transcript) more(format string, args ...any) {
	if t.verbose > 0 {
		t.say(format, args...)
	}
}

// Event says what the client of the broker is at.
func (t *transcript) Event(e client.Event) {
	switch e := e.(type) {
	case client.Connecting:
		t.more("Connecting to server")
	case client.Connected:
		t.more("Using [%s] as source IPv4 address.", e.Local)
	case client.Requesting:
		t.more("Send request")
	case client.Offered:
		t.more("Process response from server")
	case client.Redirected:
		t.more("Redirected to %s", brokers(e.Brokers))
	case client.Renewing:
		t.more("Renewing the tunnel")
	case client.AddressChanged:
		t.say("Source IPv4 address changed from %s to %s", e.Old, e.New)
		t.up = false
	case client.Up:
		t.isUp()
	case client.Failed:
		t.failed(e)
	case client.Lost:
		t.say("Tunnel is lost: %v", e.Err)
		t.up, t.failure = false, e.Err
	}
}

func (t *transcript) isUp() {
	if t.up {
		t.more("Tunnel is renewed")
		return
	}
	t.up, t.failure = true, nil
	t.say("Tunnel is up, staying in the foreground")
}

func (t *transcript) failed(e client.Failed) {
	what := "Connection failed"
	if t.up {
		what = "Renewal failed"
	} else {
		t.failure = e.Err
	}
	t.say("%s: %v; retrying in %s", what, e.Err, seconds(e.RetryIn))
}

func seconds(d time.Duration) string {
	if n := int(math.Ceil(d.Seconds())); n != 1 {
		return strconv.Itoa(n) + " seconds"
	}
	return "1 second"
}

func brokers(list []tsp.Broker) string {
	var names []string
	for _, b := range list {
		names = append(names, b.String())
	}
	return strings.Join(names, ", ")
}

// Around what a script prints. The scripts of old print these lines, and which script
// they are, themselves.
const (
	scriptBegins = "--- Start of configuration script. ---"
	scriptEnds   = "--- End of configuration script. ---"
)

// Setup shows what the script of the template directory is told. Without one the
// program does what linux.sh did, and says so in the words of linux.sh.
func (t *transcript) Setup(vars []hook.Variable, script string) {
	if t.verbose == 0 {
		return
	}
	for _, line := range hook.Transcript(vars) {
		t.say("%s", line)
	}
	t.say(scriptBegins)
	if script != "" {
		t.scripted = true
		t.say("Script: %s", filepath.Base(script))
		return
	}
	t.say("Script: linux.sh")
	t.sayOwn(vars)
}

func (t *transcript) sayOwn(vars []hook.Variable) {
	value := make(map[string]string)
	for _, v := range vars {
		value[v.Name] = v.Value
	}
	t.say("%s setup", value["TSP_TUNNEL_INTERFACE"])
	t.say("Setting up link to %s", value["TSP_SERVER_ADDRESS_IPV4"])
	t.say("This host is: %s/%s", value["TSP_CLIENT_ADDRESS_IPV6"], value["TSP_TUNNEL_PREFIXLEN"])
	if !t.set.NoRoute {
		t.say("Adding default route")
	}
}

// Line shows what a script printed: to those who gave -v here, to all others in the
// log.
func (t *transcript) Line(line string) {
	if t.scripted && (line == scriptBegins || line == scriptEnds || strings.HasPrefix(line, "Script:")) {
		return // has been said, or will be
	}
	if t.verbose > 0 {
		t.say("%s", line)
		return
	}
	t.log.Info("script output", "line", line)
}

// Done ends what Setup began.
func (t *transcript) Done() {
	t.scripted = false
	t.more(scriptEnds)
}

// trace shows a message of the protocol.
func (t *transcript) trace(sent bool, text []byte) {
	side := "S"
	if sent {
		side = "C"
	}
	for line := range bytes.Lines(text) {
		t.say("%s: %s", side, bytes.TrimRight(line, "\r\n"))
	}
}

// safe is a line in which everything that is no visible character is written as Go
// writes it.
func safe(line string) string {
	var b strings.Builder
	for _, r := range line {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
	}
	return b.String()
}
