package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
)

const rootHelp = `sixin4 gives IPv6 to a host whose kernel, container or provider has none: an
IPv6-in-IPv4 tunnel (6in4, protocol 41, RFC 4213) in user space, on a TUN device.
It needs no sit driver.

Exit status: 0 fine, 1 failure, 3 no tunnel is running (status), 64 the command
line is wrong, 69 not possible here, 75 try again, 77 no permission, 78 the
configuration file is wrong.`

const rootExamples = `  sixin4 up --remote 198.51.100.1 --address 2001:db8::2/64 --route ::/0
  sixin4 connect --server broker.example.net
  sixin4 status
  sixin4 demo
  sixin4 help config`

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "sixin4",
		Short:         "IPv6-in-IPv4 tunnels in user space",
		Long:          rootHelp,
		Example:       rootExamples,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return usage("no command: up, connect, status, bench, demo or version (sixin4 --help says more)")
		},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(flagError)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", ".FlagUsagesWrapped 100 "))
	root.AddCommand(newUp(), newConnect(), newStatus(), newBench(), newDemo(), newVersion(),
		configTopic("config", "up", config.Reference), configTopic("connect-config", "connect", config.ReferenceConnect))
	return root
}

// usage is the error of a wrong command line.
func usage(format string, args ...any) error {
	return exit.With(exit.Usage, fmt.Errorf(format, args...))
}

// noArgs refuses arguments that are no flags.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usage("%s: unexpected %q: every value belongs to a flag (%s --help shows examples)",
		cmd.Name(), args[0], cmd.CommandPath())
}

// parent is the RunE of a command that only has commands below it.
func parent(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	return usage("%s: what? (%s --help shows examples)", cmd.Name(), cmd.CommandPath())
}

func unknownCommand(cmd *cobra.Command, word string) error {
	var known []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			known = append(known, c.Name())
		}
	}
	if n := config.Nearest(word, known); n != "" {
		return usage("unknown command %q; the nearest is %s", word, n)
	}
	return usage("unknown command %q (%s --help lists them)", word, cmd.CommandPath())
}

// flagError is what cobra says about a flag, with the nearest known one.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return exit.With(exit.Usage, err)
	}
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		return usage("unknown flag -%s (%s --help lists them)", short, cmd.CommandPath())
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	if n := config.Nearest(unknown.GetSpecifiedName(), known); n != "" {
		return usage("unknown flag --%s; the nearest is --%s", unknown.GetSpecifiedName(), n)
	}
	return usage("unknown flag --%s (%s --help lists them)", unknown.GetSpecifiedName(), cmd.CommandPath())
}

// configTopic is the reference configuration file of a command as a help text.
func configTopic(name, command, text string) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: "The configuration file of " + command + ", with every key and its default",
		Long:  text,
	}
}
