package cli

import (
	"io"

	"github.com/spf13/cobra"
)

// AddDryRun gives cmd the flags --dry-run and --json, which CheckDryRun checks.
func AddDryRun(cmd *cobra.Command, dryRun, asJSON *bool) {
	f := cmd.Flags()
	f.BoolVar(dryRun, "dry-run", false, "print what would be changed, change nothing")
	f.BoolVar(asJSON, "json", false, "with --dry-run: print it as JSON")
}

// CheckDryRun refuses --json without --dry-run.
func CheckDryRun(dryRun, asJSON bool) error {
	if asJSON && !dryRun {
		return Usage("--json: only with --dry-run; a running tunnel is shown by sixin4 status --json")
	}
	return nil
}

// WriteDryRun writes what would be changed, which found out err.
func WriteDryRun(out io.Writer, changes interface{ WriteText(io.Writer) error }, asJSON bool, err error) error {
	switch {
	case err != nil:
		return err
	case asJSON:
		return WriteJSON(out, changes)
	}
	return changes.WriteText(out)
}
