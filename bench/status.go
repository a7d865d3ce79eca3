package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
)

// tunnelStatus is the part of `sixin4 status --json` that the demo shows.
type tunnelStatus struct {
	Name  string            `json:"name"`
	State string            `json:"state"`
	Tx    tunnelCount       `json:"tx"`
	Rx    tunnelCount       `json:"rx"`
	Drops map[string]uint64 `json:"drops"`
}

type tunnelCount struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func statusCommand(self string, e end) []string {
	return []string{self, "status", "--json", "--socket", e.socket}
}

func readStatus(ctx context.Context, args []string) (tunnelStatus, error) {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return tunnelStatus{}, fmt.Errorf("status: %w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return tunnelStatus{}, fmt.Errorf("status: %w", err)
	}
	return parseStatus(out)
}

func parseStatus(out []byte) (tunnelStatus, error) {
	var status struct {
		Tunnels []tunnelStatus `json:"tunnels"`
	}
	if err := json.Unmarshal(out, &status); err != nil {
		return tunnelStatus{}, fmt.Errorf("status: %w", err)
	}
	if n := len(status.Tunnels); n != 1 {
		return tunnelStatus{}, fmt.Errorf("status: %d tunnels, want the one that was asked for", n)
	}
	return status.Tunnels[0], nil
}

// String is what the status says, in one line.
func (t tunnelStatus) String() string {
	return fmt.Sprintf("%s is %s: sent %v, received %v, dropped %s", t.Name, t.State, t.Tx, t.Rx, t.dropped())
}

// String is the count with its units.
func (c tunnelCount) String() string {
	return fmt.Sprintf("%d packets with %.1f MB", c.Packets, float64(c.Bytes)/1e6)
}

func (t tunnelStatus) dropped() string {
	var list []string
	for _, reason := range slices.Sorted(maps.Keys(t.Drops)) {
		if n := t.Drops[reason]; n > 0 {
			list = append(list, fmt.Sprintf("%d %s", n, reason))
		}
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
