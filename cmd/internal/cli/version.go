package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionInfo is what `version --json` prints.
type versionInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// NewVersion is the command that prints the version of a program. release is what the
// linker has set, empty when this is no release.
func NewVersion(program, release string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    "Print the version of this program, of Go and of the platform it was built for.",
		Example: fmt.Sprintf("  %[1]s version\n  %[1]s version --json", program),
		Args:    NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versionInfo{BuildVersion(release), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if asJSON {
				return WriteJSON(cmd.OutOrStdout(), v)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s (%s, %s)\n", program, v.Version, v.Go, v.Platform)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// BuildVersion is the release, else what the toolchain noted, else "devel".
func BuildVersion(release string) string {
	var module string
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "(devel)" {
		module = info.Main.Version
	}
	return cmp.Or(release, module, "devel")
}
