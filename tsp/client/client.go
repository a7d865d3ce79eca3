package client

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// State is what a client is busy with.
type State string

// The states. A tunnel that is up stays up while its lease is renewed.
const (
	StateConnecting State = "connecting" // no tunnel yet, or not any more; an attempt is under way
	StateUp         State = "up"
	StateDown       State = "down" // no tunnel; the next attempt is waited for
)

// Status is how a client does.
type Status struct {
	State  State
	Reason string    // why, or what else is going on; empty when there is nothing to say
	Lease  *Lease    // the last one that was up, nil before
	Next   time.Time // of the next attempt; zero for none planned
}

// Client gets and keeps a tunnel.
type Client struct {
	cfg Config

	mu     sync.Mutex
	status Status
}

// New checks the configuration; it starts nothing. What is not supported is an error that
// wraps errors.ErrUnsupported.
func New(c Config) (*Client, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("tsp client: %w", err)
	}
	return &Client{cfg: c, status: Status{State: StateDown}}, nil
}

// Status is how the client does now. It may be called at any time.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

func (c *Client) setStatus(s Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = s
}

// Run gets the tunnel and keeps it until ctx ends, which is no error. Otherwise the
// error is an [Error], as Config.GiveUp has it. The control connection is closed
// then; the tunnel itself is the caller's to take down. It is for one goroutine at a time.
func (c *Client) Run(ctx context.Context) error {
	return newRun(c).loop(ctx)
}
