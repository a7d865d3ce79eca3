package traffic

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
)

// The roles of a child process. A sink prints the address it listens at as its
// first line; the last line of every role is its result.
const (
	roleTCP     = "tcp"
	roleTCPSink = "tcp-sink"
	roleUDP     = "udp"
	roleUDPSink = "udp-sink"
	rolePing    = "ping"
)

// job is the one argument of a child process, as JSON.
type job struct {
	Role string         `json:"role"`
	To   netip.AddrPort `json:"to"` // where the sink listens; port 0 is any
	TCP  TCP            `json:"tcp,omitzero"`
	UDP  UDP            `json:"udp,omitzero"`
	Ping Ping           `json:"ping,omitzero"`
}

func (j job) asSink() job {
	j.Role += "-sink"
	return j
}

// Main is the child process: it does the job that Runner wrote into args and
// returns the exit status.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := work(ctx, args, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func work(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	var j job
	if len(args) != 1 {
		return fmt.Errorf("traffic: %d arguments: need one, the job", len(args))
	}
	if err := json.Unmarshal([]byte(args[0]), &j); err != nil {
		return fmt.Errorf("traffic: job %q: %w", args[0], err)
	}
	result, err := j.do(ctx, in, json.NewEncoder(out))
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

func (j job) do(ctx context.Context, in io.Reader, out *json.Encoder) (any, error) {
	switch j.Role {
	case roleTCP:
		return struct{}{}, SourceTCP(ctx, j.To, j.TCP)
	case roleTCPSink:
		return j.tcpSink(ctx, out)
	case roleUDP:
		return SourceUDP(ctx, j.To, j.UDP)
	case roleUDPSink:
		return j.udpSink(ctx, in, out)
	case rolePing:
		return SendPing(ctx, j.To.Addr(), j.Ping)
	}
	return nil, fmt.Errorf("traffic: role %q: not one of tcp, tcp-sink, udp, udp-sink, ping", j.Role)
}

func (j job) tcpSink(ctx context.Context, out *json.Encoder) (any, error) {
	listener, err := ListenTCP(j.To)
	if err != nil {
		return nil, err
	}
	defer func() { _ = listener.Close() }() // the process ends anyway
	if err := out.Encode(listener.Addr().String()); err != nil {
		return nil, err
	}
	return SinkTCP(ctx, listener, j.TCP)
}

// udpSink counts until its standard input ends.
func (j job) udpSink(ctx context.Context, in io.Reader, out *json.Encoder) (any, error) {
	conn, err := ListenUDP(j.To)
	if err != nil {
		return nil, err
	}
	if err := out.Encode(conn.LocalAddr().String()); err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in) // its end is all that counts
		close(stop)
	}()
	return SinkUDP(ctx, conn, stop)
}
