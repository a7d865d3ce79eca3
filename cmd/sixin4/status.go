package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/program"
	"sixin4/tun/ifcfg"
)

const statusHelp = `Show the tunnels that are running, or the one called NAME: their ends, addresses,
counters, and how many packets were dropped for which reason.

They are found by their control sockets in /run/sixin4 and, where that cannot be
written, $XDG_RUNTIME_DIR/sixin4. The exit status is 3 when no tunnel runs.`

const statusExamples = `  sixin4 status
  sixin4 status sixin4-0
  sixin4 status --json
  sixin4 status --socket /run/user/1000/home.sock
  curl --unix-socket /run/sixin4/sixin4-0.sock http://tunnel/v1/status`

type statusFlags struct {
	json   bool
	socket string
}

func newStatus() *cobra.Command {
	var flags statusFlags
	cmd := &cobra.Command{
		Use:               "status [NAME] [flags]",
		Short:             "Show the tunnels that are running",
		Long:              statusHelp,
		Example:           statusExamples,
		Args:              statusArgs,
		ValidArgsFunction: completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return status(cmd, slices.Concat(args, []string{""})[0], flags)
		},
	}
	cmd.Flags().BoolVar(&flags.json, "json", false, "print JSON")
	cmd.Flags().StringVar(&flags.socket, "socket", "", "ask the tunnel on the control socket at `PATH`")
	return cmd
}

func statusArgs(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return cli.Usage("status: unexpected %q: at most one NAME", args[1])
	}
	if len(args) == 1 {
		if err := ifcfg.CheckName(args[0]); err != nil {
			return cli.Usage("status: %q: %w", args[0], err)
		}
	}
	return nil
}

func status(cmd *cobra.Command, name string, flags statusFlags) error {
	paths, err := statusPaths(name, flags.socket, cmd.Flags().Changed("socket"))
	if err != nil {
		return err
	}
	all, err := control.Collect(cmd.Context(), paths)
	if name != "" {
		all.Tunnels = slices.DeleteFunc(all.Tunnels, func(t control.Tunnel) bool { return t.Name != name })
	}
	if len(all.Tunnels) > 0 || flags.json {
		if err := writeStatus(cmd, all, flags.json); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		return exit.With(exit.Permission, err)
	case err != nil || len(all.Tunnels) > 0:
		return err
	case name != "":
		return exit.With(exit.NotRunning, errors.New("no tunnel "+name+" is running"))
	}
	return exit.With(exit.NotRunning, errors.New("no tunnel is running"))
}

// statusPaths returns the sockets to ask.
func statusPaths(name, socket string, given bool) ([]string, error) {
	if !given {
		return control.Sockets(program.SocketDirs(), name), nil
	}
	path, err := config.ParseSocket(socket)
	if err != nil {
		return nil, cli.Usage("--socket %q: %w", socket, err)
	}
	return []string{path}, nil
}

func writeStatus(cmd *cobra.Command, all control.Status, asJSON bool) error {
	if asJSON {
		return cli.WriteJSON(cmd.OutOrStdout(), all)
	}
	return all.WriteText(cmd.OutOrStdout(), time.Now())
}

// completeNames offers the shell the names of the tunnels that have a socket.
func completeNames(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	if len(args) == 0 {
		for _, path := range control.Sockets(program.SocketDirs(), "") {
			names = append(names, strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
