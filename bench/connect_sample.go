package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sixin4/bench/child"
)

// moments are when each thing happened, from the start of one process to a usable
// tunnel.
type moments struct {
	start  time.Time // the process is about to be started
	hello  time.Time // the broker has its VERSION
	accept time.Time // the broker has its accept
	ready  time.Time // it has said that packets can flow
	echo   time.Time // an echo request through the tunnel is answered
}

// span is the time between two moments.
type span struct {
	name string
	of   func(moments) time.Duration
}

// spans are the columns of the table.
var spans = [...]span{
	{"start to VERSION", func(m moments) time.Duration { return m.hello.Sub(m.start) }},
	{"VERSION to accept", func(m moments) time.Duration { return m.accept.Sub(m.hello) }},
	// The broker may note its accept a little late, and be overtaken on a busy machine.
	lastSpan:  {"accept to ready line", func(m moments) time.Duration { return max(m.ready.Sub(m.accept), 0) }},
	readySpan: {"start to ready line", func(m moments) time.Duration { return m.ready.Sub(m.start) }},
	{"start to answered echo", func(m moments) time.Duration { return m.echo.Sub(m.start) }},
}

const (
	lastSpan  = 2 // the only one that may be 0
	readySpan = 3 // the column that the program alone has a figure in too
)

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// once starts sixin4 connect, waits until its tunnel carries packets, and stops it.
func (c *connects) once(ctx context.Context, l login) (moments, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	echo, err := c.openEcho()
	if err != nil {
		return moments{}, err
	}
	defer echo.close()
	var (
		m        moments
		watchers sync.WaitGroup
		echoErr  error
		tspErr   error
	)
	next := c.broker.next()
	watchers.Go(func() { m.echo, echoErr = echo.answered(ctx) })
	watchers.Go(func() { m.hello, m.accept, tspErr = next(ctx) })
	m.start = time.Now()
	p, _, err := startReady(ctx, c.topo.A, c.command(l))
	if err != nil {
		cancel()
		watchers.Wait()
		return moments{}, err
	}
	m.ready = time.Now()
	watchers.Wait()
	return m, errors.Join(tspErr, echoErr, p.Stop())
}

// openEcho makes what asks the far end, on the host that is to get the tunnel.
func (c *connects) openEcho() (e *echoSocket, err error) {
	err = c.topo.A.Do(func() (err error) {
		e, err = openEcho(offeredServer)
		return err
	})
	return e, err
}

func (c *connects) command(l login) []string {
	args := []string{c.self, "connect", "--server", c.topo.AddrB.String(), "--transport", l.transport,
		"--name", tunnelName, "--socket", filepath.Join(c.dir, "near.sock")}
	if l.auth == "" {
		return args
	}
	return append(args, "--auth", strings.ToLower(l.auth), "--user", connectUser, "--password-file", c.password())
}

// onlyStart is how long the program takes to do nothing else than print a line.
func (c *connects) onlyStart(ctx context.Context) (float64, error) {
	start := time.Now()
	p, err := child.Start(c.topo.A, c.self, "version")
	if err != nil {
		return 0, err
	}
	_, err = p.Line(ctx)
	took := milliseconds(time.Since(start))
	if err == nil {
		err = p.Wait(ctx)
	}
	return took, errors.Join(err, p.Stop())
}

func (c *connects) report() Report {
	t := Table{Title: "From start to a usable tunnel"}
	for _, s := range spans {
		t.Columns = append(t.Columns, s.name)
	}
	for i, l := range logins {
		t.Rows = append(t.Rows, connectRow(l.name, c.samples[i]))
	}
	bare := Row{Name: "sixin4 version", Cells: make([]Cell, len(spans))}
	figure := newFigure("ms", c.bare)
	bare.Cells[readySpan].Figure = &figure
	t.Rows = append(t.Rows, bare)
	return Report{
		Title:   "Two network namespaces, one veth pair; sixin4 connect in one, the broker in the other",
		Machine: thisMachine(),
		Settings: []string{
			fmt.Sprintf("%d rounds in turns, and one before them that does not count", c.cfg.Rounds),
			"Each figure: median (least-greatest). The first three columns add up to the fourth, each round by itself.",
			fmt.Sprintf("An echo request is sent every %v from before the start on; sixin4 version only starts and prints a line.", echoEvery),
		},
		Tables: []Table{t},
		Notes: []string{fmt.Sprintf("over TCP with an account the broker waits %v between its last two answers, "+
			"for clients that hang when both arrive at once; it is in VERSION to accept", brokerPause)},
	}
}

func connectRow(name string, samples []moments) Row {
	row := Row{Name: name}
	for _, s := range spans {
		rounds := make([]float64, len(samples))
		for i, m := range samples {
			rounds[i] = milliseconds(s.of(m))
		}
		figure := newFigure("ms", rounds)
		row.Cells = append(row.Cells, Cell{Figure: &figure})
	}
	return row
}
