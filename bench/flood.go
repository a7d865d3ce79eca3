package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"sixin4/bench/child"
	"sixin4/bench/load"
	"sixin4/bench/traffic"
	"sixin4/tsp/client"
)

const (
	floodRate  = 20_000 // forged datagrams a second
	closedPort = 9      // of UDP, where nobody listens
)

// flooded measures one stream of a client while its broker is flooded. What forges and
// sends costs the same processors, and so does the kernel's work on what it has
// received. So it is compared with the stream while as much goes to a port of the same
// host where nobody listens. The flood is a process with the nice value of attackers,
// for they bring processors of their own.
func (p *pair) flooded() probe {
	const flooded = "TCP 1 stream, 20 000 forged/s"
	cfg := traffic.TCP{Streams: 1, Warmup: p.cfg.Duration / 4, Duration: p.cfg.Duration}
	return probe{
		rows: []rowSpec{
			{flooded + " at a closed port", "Gbit/s", true}, {flooded + " at the broker", "Gbit/s", true},
			{"  of it at a closed port", "", true}, {"  forged", "kpackets/s", true},
		},
		run: func(ctx context.Context, c *column) ([]float64, error) {
			if !c.inner.IsValid() {
				return nil, nil
			}
			var rates []float64
			var forged float64
			for _, port := range []uint16{closedPort, client.DefaultPort} {
				r, sent, err := p.underFlood(ctx, c, port, cfg)
				if err != nil {
					return nil, err
				}
				rates, forged = append(rates, r.BitsPerSecond()/1e9), sent
			}
			if rates[0] <= 0 {
				return nil, errors.New("nothing came through while a closed port was flooded")
			}
			return append(rates, rates[1]/rates[0], forged/1000), nil
		},
	}
}

// underFlood runs a stream while a port of the broker's host is flooded, and says how many
// datagrams a second that was.
func (p *pair) underFlood(ctx context.Context, c *column, port uint16, cfg traffic.TCP) (r traffic.TCPResult, rate float64, err error) {
	arg, err := json.Marshal(load.Flood{
		To: netip.AddrPortFrom(c.outerTo, port), Rate: floodRate,
		Client: c.outerFrom, Inner: c.inner, Random: crowdNet,
	})
	if err != nil {
		return r, 0, err
	}
	flood, _, err := startReady(ctx, c.from, []string{p.self, command, hiddenFlood, string(arg)})
	if err != nil {
		return r, 0, err
	}
	defer func() { err = errors.Join(err, flood.Stop()) }()
	if r, err = p.runner().TCP(ctx, c.from, c.to, c.addr, cfg); err != nil {
		return r, 0, err
	}
	rate, err = endFlood(ctx, flood)
	return r, rate, err
}

// endFlood has the flood stop, and says its rate.
func endFlood(ctx context.Context, p *child.Process) (rate float64, err error) {
	p.CloseInput()
	line, err := p.Line(ctx)
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal([]byte(line), &rate); err != nil {
		return 0, fmt.Errorf("flood said %q: %w", line, err)
	}
	return rate, p.Wait(ctx)
}

// floodMain is the child process that floods until its standard input ends, and then says
// how many datagrams a second it sent.
func floodMain(args []string) int { return exitStatus(runFlood(args, os.Stdin, os.Stdout)) }

func runFlood(args []string, in io.Reader, out io.Writer) error {
	var f load.Flood
	if len(args) != 1 {
		return fmt.Errorf("flood: %d arguments: need one, the job", len(args))
	}
	if err := json.Unmarshal([]byte(args[0]), &f); err != nil {
		return fmt.Errorf("flood: job %q: %w", args[0], err)
	}
	if err := yieldProcessors(attackersNice); err != nil {
		return fmt.Errorf("flood: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, in) // its end is all that counts
		stop()
	}()
	var start time.Time
	sent, err := f.Run(ctx, here{}, func() {
		start = time.Now()
		fmt.Fprintln(out, "ready")
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(float64(sent) / time.Since(start).Seconds())
}
