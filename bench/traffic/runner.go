package traffic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sixin4/bench/child"
)

// Runner runs traffic between two places by child processes. Its command is the
// program and the arguments after which it hands the rest to Main.
type Runner struct {
	Command []string
}

// TCP runs streams from one namespace to addr in another.
func (r Runner) TCP(ctx context.Context, from, to child.Starter, addr netip.Addr, cfg TCP) (TCPResult, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Warmup+cfg.Duration+3*slack)
	defer cancel()
	var result TCPResult
	err := r.run(ctx, from, to, job{Role: roleTCP, To: netip.AddrPortFrom(addr, 0), TCP: cfg}, nil, &result)
	return result, err
}

// UDP runs datagrams from one namespace to addr in another.
func (r Runner) UDP(ctx context.Context, from, to child.Starter, addr netip.Addr, cfg UDP) (UDPResult, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Duration+3*slack)
	defer cancel()
	var result UDPResult
	err := r.run(ctx, from, to, job{Role: roleUDP, To: netip.AddrPortFrom(addr, 0), UDP: cfg}, &result.Sent, &result.Received)
	return result, err
}

// Ping sends echo requests from a namespace to addr.
func (r Runner) Ping(ctx context.Context, from child.Starter, addr netip.Addr, cfg Ping) (PingResult, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(cfg.Count)*(cfg.Interval+cfg.Timeout+time.Second)+slack)
	defer cancel()
	var result PingResult
	source, err := r.start(from, job{Role: rolePing, To: netip.AddrPortFrom(addr, 0), Ping: cfg})
	if err != nil {
		return result, err
	}
	err = finish(ctx, source, &result)
	return result, errors.Join(err, source.Stop())
}

// run starts a sink, a source that sends to it, and reads what both print.
func (r Runner) run(ctx context.Context, from, to child.Starter, j job, sent, received any) (err error) {
	sink, err := r.start(to, j.asSink())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Stop()) }()
	if err := answer(ctx, sink, &j.To); err != nil {
		return err
	}
	source, err := r.start(from, j)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Stop()) }()
	if err := finish(ctx, source, sent); err != nil {
		return err
	}
	sink.CloseInput()
	return finish(ctx, sink, received)
}

func (r Runner) start(in child.Starter, j job) (*child.Process, error) {
	arg, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	return child.Start(in, append(append([]string(nil), r.Command...), string(arg))...)
}

// answer reads the next line that a child prints into v, unless v is nil.
func answer(ctx context.Context, p *child.Process, v any) error {
	line, err := p.Line(ctx)
	if err != nil || v == nil {
		return err
	}
	if err := json.Unmarshal([]byte(line), v); err != nil {
		return fmt.Errorf("traffic answer %q: %w", line, err)
	}
	return nil
}

func finish(ctx context.Context, p *child.Process, v any) error {
	if err := answer(ctx, p, v); err != nil {
		return err
	}
	return p.Wait(ctx)
}
