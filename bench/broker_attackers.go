package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"sixin4/bench/child"
	"sixin4/bench/load"
)

// The attackers are a process of their own, as the client that behaves well must not
// wait for the scheduler of theirs, and one that has less of the processors than the
// broker and that client: attackers bring processors of their own.

// attackersNice is the nice value of the attackers: a tenth of the share of the others,
// when all want all.
const attackersNice = 10

// attackJob is the one argument of that process, as JSON.
type attackJob struct {
	Load   load.Config
	Attack load.Attack
}

// attackDone is what the process has done when its standard input ends, as JSON.
type attackDone struct {
	Silent      int64 // connections that say nothing, open at the end
	Connections int64 // opened
	Messages    int64 // bad ones, over TCP
	Datagrams   int64 // bad ones
	Passwords   int64 // wrong ones tried
	Refused     int64 // of them with: not now
}

// spentLine is what the process says when it has tried all passwords.
const spentLine = "spent"

// here is the namespace of this process.
type here struct{}

func (here) Do(f func() error) error { return f() }

func attackersMain(args []string) int { return exitStatus(runAttackers(args, os.Stdin, os.Stdout)) }

// runAttackers attacks until its input ends.
func runAttackers(args []string, in io.Reader, out io.Writer) (err error) {
	var job attackJob
	if len(args) != 1 {
		return fmt.Errorf("attackers: %d arguments: need one, the job", len(args))
	}
	if err := json.Unmarshal([]byte(args[0]), &job); err != nil {
		return fmt.Errorf("attackers: job %q: %w", args[0], err)
	}
	if err := yieldProcessors(attackersNice); err != nil {
		return fmt.Errorf("attackers: %w", err)
	}
	crowd, err := load.Open(here{}, job.Load)
	if err != nil {
		return fmt.Errorf("attackers: %w", err)
	}
	defer func() { err = errors.Join(err, crowd.Close()) }()
	ctx, stop := context.WithCancel(context.Background())
	job.Attack.Spent = func() { fmt.Fprintln(out, spentLine) }
	var done load.Attacked
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		crowd.Run(ctx, job.Attack, &done)
	}()
	_, _ = io.Copy(io.Discard, in) // its end is all that counts
	sum := attackDone{
		Silent: done.Silent.Load(), Connections: done.Connections.Load(), Messages: done.Messages.Load(),
		Datagrams: done.Datagrams.Load(), Passwords: done.Passwords.Load(), Refused: done.Refused.Load(),
	}
	stop()
	<-ended
	return json.NewEncoder(out).Encode(sum)
}

// startAttackers starts them in the clients' namespace, at addresses of their own.
func (m *brokers) startAttackers() (*child.Process, error) {
	job := attackJob{Load: m.crowdConfig(), Attack: m.sizes.attack}
	job.Load.First, job.Load.Count, job.Load.Ports = m.crowd.Addr(m.cfg.Tunnels), strangers/2, 0
	job.Attack.Sources = strangers / 2
	job.Attack.Users = []string{userName(1), "nobody1", userName(2), "nobody2"}
	arg, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	return child.Start(m.topo.A, m.self, command, hiddenAttack, string(arg))
}

// spent is closed when they have tried all passwords, or ctx ends.
func spent(ctx context.Context, p *child.Process) <-chan struct{} {
	all := make(chan struct{})
	go func() {
		defer close(all)
		_, _ = p.Line(ctx) // who has ended says so to endAttackers
	}()
	return all
}

// endAttackers has them stop, and says what they did.
func endAttackers(ctx context.Context, p *child.Process) (sum attackDone, err error) {
	if err := p.Running(); err != nil {
		return sum, err
	}
	p.CloseInput()
	line, err := p.Line(ctx)
	if err == nil && line == spentLine {
		line, err = p.Line(ctx)
	}
	if err != nil {
		return sum, err
	}
	if err := json.Unmarshal([]byte(line), &sum); err != nil {
		return sum, fmt.Errorf("attackers said %q: %w", line, err)
	}
	return sum, p.Wait(ctx)
}
