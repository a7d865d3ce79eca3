// Package cli is what the programs with commands do alike on the command line: which
// errors a wrong one gives, flags that are settings of package config, help texts that
// are reference files, and JSON.
package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
)

// Prepare makes cmd the root of a program: it writes to stdout and stderr, and leaves
// errors to its caller. Without a command below it the error is missing.
func Prepare(cmd *cobra.Command, stdout, stderr io.Writer, missing string) {
	cmd.SilenceErrors = true
	cmd.SilenceUsage = true
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return Usage("%s", missing)
	}
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.SetFlagErrorFunc(flagError)
	cmd.SetUsageTemplate(strings.ReplaceAll(cmd.UsageTemplate(), ".FlagUsages ", ".FlagUsagesWrapped 100 "))
}

// Usage is the error of a wrong command line.
func Usage(format string, args ...any) error {
	return exit.With(exit.Usage, fmt.Errorf(format, args...))
}

// NoArgs refuses arguments that are no flags.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return Usage("%s: unexpected %q: every value belongs to a flag (%s --help shows examples)",
		cmd.Name(), args[0], cmd.CommandPath())
}

// Parent is the RunE of a command that only has commands below it.
func Parent(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	return Usage("%s: what? (%s --help shows examples)", cmd.Name(), cmd.CommandPath())
}

func unknownCommand(cmd *cobra.Command, word string) error {
	var known []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			known = append(known, c.Name())
		}
	}
	if n := config.Nearest(word, known); n != "" {
		return Usage("unknown command %q; the nearest is %s", word, n)
	}
	return Usage("unknown command %q (%s --help lists them)", word, cmd.CommandPath())
}

// flagError is what cobra says about a flag, with the nearest known one.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return exit.With(exit.Usage, err)
	}
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		return Usage("unknown flag -%s (%s --help lists them)", short, cmd.CommandPath())
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	if n := config.Nearest(unknown.GetSpecifiedName(), known); n != "" {
		return Usage("unknown flag --%s; the nearest is --%s", unknown.GetSpecifiedName(), n)
	}
	return Usage("unknown flag --%s (%s --help lists them)", unknown.GetSpecifiedName(), cmd.CommandPath())
}

// ConfigTopic is the reference configuration file of a command as a help text.
func ConfigTopic(name, command, text string) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: "The configuration file of " + command + ", with every key and its default",
		Long:  text,
	}
}

// WriteJSON writes v for people and programs.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
