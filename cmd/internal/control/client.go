package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"
)

const (
	// answerTime is how long a tunnel may take to answer; a hung one must not hang us. On a
	// busy machine one that has its programs loaded into the kernel takes two seconds.
	answerTime = 5 * time.Second
	// maxAnswer bounds an answer in bytes: some 100 000 peers.
	maxAnswer = 64 << 20
)

// Get asks the tunnel on the socket at path. It takes at most two seconds.
func Get(ctx context.Context, path string) (status Status, err error) {
	return status, ask(ctx, path, func(ctx context.Context, c *http.Client) error {
		status, err = get(ctx, c)
		return err
	})
}

// Drain tells the broker on the socket at path to take no new tunnels, or to take
// them again. It takes at most two seconds.
func Drain(ctx context.Context, path string, on bool) error {
	return ask(ctx, path, func(ctx context.Context, c *http.Client) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://tunnel%s?on=%t", drainPath, on), nil)
		if err != nil {
			return err
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			return fmt.Errorf("not a broker: %s", resp.Status)
		}
		return nil
	})
}

// ask has a conversation with the process on the socket at path.
func ask(ctx context.Context, path string, talk func(context.Context, *http.Client) error) error {
	var dialer net.Dialer
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	err := talk(ctx, &http.Client{Transport: transport})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no answer in %v", path, answerTime)
	case err != nil:
		return fmt.Errorf("%s: %w", path, cause(plain(err)))
	}
	return nil
}

// plain is err without what package http puts around it.
func plain(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	if err == io.EOF {
		return errors.New("the connection ended without an answer")
	}
	return err
}

// Alive reports whether a process listens on the socket at path.
func Alive(path string) bool {
	conn, err := net.DialTimeout("unix", path, answerTime)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func get(ctx context.Context, client *http.Client) (Status, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tunnel"+statusPath, nil)
	if err != nil {
		return Status{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return Status{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Status{}, fmt.Errorf("not the status of a tunnel: %s", resp.Status)
	}
	var status Status
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&status); err != nil {
		return Status{}, fmt.Errorf("not the status of a tunnel: %w", err)
	}
	return status, nil
}

// Collect asks the tunnels on all paths at once and returns what they answered,
// in the order of paths. Where nobody listens, or nobody does any more after one that
// ended while it was asked, there is no tunnel and no error; any other failure is in
// the error, which does not hide the other answers.
func Collect(ctx context.Context, paths []string) (Status, error) {
	answers := make([]Status, len(paths))
	errs := make([]error, len(paths))
	var wg sync.WaitGroup
	for i, path := range paths {
		wg.Go(func() { answers[i], errs[i] = Get(ctx, path) })
	}
	wg.Wait()
	all := Status{Tunnels: []Tunnel{}}
	for i, path := range paths {
		all.Tunnels = append(all.Tunnels, answers[i].Tunnels...)
		if isUnheard(errs[i]) || errs[i] != nil && isGone(path) {
			errs[i] = nil
		}
	}
	return all, errors.Join(errs...)
}

// isUnheard reports whether err means that nobody listens.
func isUnheard(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// isGone reports whether nobody listens on the socket at path. Package http has many
// errors for a process that ends while it is asked, some of which have no name.
func isGone(path string) bool {
	conn, err := net.DialTimeout("unix", path, answerTime)
	if err != nil {
		return isUnheard(err)
	}
	conn.Close()
	return false
}
