package main

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/program"
)

const drainHelp = `Tell the broker that runs to give no new tunnels: clients are sent to the brokers
of --redirect, or told to come later. Tunnels that are up go on, until their clients
leave. With --off new tunnels are given again, as after a restart.

Exit status 3 when no broker runs.`

const drainExamples = `  tspd drain
  tspd drain --off`

type drainFlags struct {
	off    bool
	socket string
	name   string
}

func newDrain() *cobra.Command {
	var flags drainFlags
	cmd := &cobra.Command{
		Use:     "drain [flags]",
		Short:   "Give no new tunnels",
		Long:    drainHelp,
		Example: drainExamples,
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return drain(cmd, flags) },
	}
	f := cmd.Flags()
	f.BoolVar(&flags.off, "off", false, "give new tunnels again")
	f.StringVar(&flags.name, "name", config.DefaultBrokerName, "the broker's `INTERFACE`")
	f.StringVar(&flags.socket, "socket", "", "its control socket at `PATH`, if that is elsewhere")
	return cmd
}

func drain(cmd *cobra.Command, flags drainFlags) error {
	path := flags.socket
	if path == "" {
		path = control.Path(program.SocketDirs(), flags.name)
	}
	err := control.Drain(cmd.Context(), path, !flags.off)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return exit.With(exit.NotRunning, errors.New("no broker runs (its control socket would be "+path+")"))
	case errors.Is(err, fs.ErrPermission):
		return exit.With(exit.Permission, err)
	}
	return err
}
