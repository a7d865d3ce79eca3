package main

import (
	"io"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
)

// version is set by the linker (-X main.version=v1.2.3) in a release.
var version string

const rootHelp = `sixin4 gives IPv6 to a host whose kernel, container or provider has none: an
IPv6-in-IPv4 tunnel (6in4, protocol 41, RFC 4213) in user space, on a TUN device.
It needs no sit driver.

Exit status: 0 fine, 1 failure, 3 no tunnel is running (status), 64 the command
line is wrong, 69 not possible here, 75 try again, 77 no permission, 78 the
configuration file is wrong.`

const rootExamples = `  sixin4 up --remote 198.51.100.1 --address 2001:db8::2/64 --route ::/0
  sixin4 connect --server broker.example.net
  sixin4 proxy --server broker.example.net -- curl https://ipv6.example.net/
  sixin4 status
  sixin4 demo
  sixin4 help config`

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:     "sixin4",
		Short:   "IPv6-in-IPv4 tunnels in user space",
		Long:    rootHelp,
		Example: rootExamples,
	}
	cli.Prepare(root, stdout, stderr, "no command: up, connect, proxy, status, bench, demo or version (sixin4 --help says more)")
	root.AddCommand(newUp(), newConnect(), newProxy(), newStatus(), newBench(), newDemo(), cli.NewVersion("sixin4", version),
		cli.ConfigTopic("config", "up", config.Reference), cli.ConfigTopic("connect-config", "connect", config.ReferenceConnect),
		cli.ConfigTopic("proxy-config", "proxy", config.ReferenceProxy))
	return root
}
