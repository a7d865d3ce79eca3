package cli

import (
	"io"

	"github.com/spf13/cobra"
)

// Running are the flags, of a command that runs a tunnel or a broker, that are no settings.
type Running struct {
	File   string // with settings; empty for none
	DryRun bool   // only show what would be changed
	JSON   bool   // and that as JSON
}

// AddDryRun gives cmd the flags --dry-run and --json, which CheckDryRun checks.
func (r *Running) AddDryRun(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&r.DryRun, "dry-run", false, "print what would be changed, change nothing")
	f.BoolVar(&r.JSON, "json", false, "with --dry-run: print it as JSON")
}

// CheckDryRun refuses --json without --dry-run.
func (r Running) CheckDryRun() error {
	if r.JSON && !r.DryRun {
		return Usage("--json: only with --dry-run; a running tunnel is shown by sixin4 status --json")
	}
	return nil
}

// WriteDryRun writes what would be changed, which found out err.
func (r Running) WriteDryRun(out io.Writer, changes interface{ WriteText(io.Writer) error }, err error) error {
	switch {
	case err != nil:
		return err
	case r.JSON:
		return WriteJSON(out, changes)
	}
	return changes.WriteText(out)
}
