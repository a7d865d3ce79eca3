package main

import (
	"github.com/spf13/cobra"

	"sixin4/cmd/internal/config"
)

// setting is a flag whose text goes to a config.Raw unchanged: package config
// checks it, so that a flag and a line of the file get the same answer.
type setting struct {
	raw   config.Raw
	key   config.Key
	value string
}

// String returns nothing: the defaults are told in the help texts.
func (setting) String() string { return "" }

// Type is what --help shows as the flag's value.
func (s setting) Type() string { return s.value }

// Set stores text.
func (s setting) Set(text string) error {
	s.raw.Set(s.key, text)
	return nil
}

// settings are the flags that are keys of the file too, in the order of --help.
var settings = []struct {
	key    config.Key
	value  string // what stands for it in --help
	help   string
	values []string // for the shell's completion
}{
	{config.Remote, "A.B.C.D", "the far end", nil},
	{config.Peers, "A.B.C.D=PREFIX[,...]", "instead of --remote: a peer of a hub and what is reached through it; repeatable", nil},
	{config.Local, "auto|A.B.C.D", "this end; auto, the default, is the address that packets to the far end leave from", []string{"auto"}},
	{config.Address, "ADDRESS/LENGTH", "IPv6 address of the interface; repeatable", nil},
	{config.Route, "PREFIX", "route PREFIX into the tunnel, ::/0 for everything; none by default; repeatable", []string{"::/0"}},
	{config.Name, "INTERFACE", "name of the interface; default: the first free of sixin4-0, sixin4-1, ...", nil},
	{config.MTU, "auto|N", "largest IPv6 packet in bytes; auto, the default, follows the way to the far end, less 20; N, 1280 to 65515, is fixed, and Don't Fragment is clear outside", []string{"auto", "1280", "1480"}},
	{config.TTL, "N|inherit", "time to live outside, 1 to 255; default 64; inherit takes the hop limit inside", []string{"64", "inherit"}},
	{config.TOS, "N|inherit", "DSCP outside, 0 to 252 and a multiple of 4, because the ECN bits follow RFC 6040; default 0", []string{"0", "inherit"}},
	{config.Queues, "auto|N", "queues of the TUN device, each with a thread; default auto", []string{"auto", "1", "2"}},
	{config.Wire, "raw|packet", "how IPv4 packets are sent: raw, the default, is a raw socket; packet hands them to the link, faster and past this host's firewall", []string{"raw", "packet"}},
	{config.Socket, "PATH", "control socket; default: /run/sixin4/NAME.sock, or, when that cannot be written, $XDG_RUNTIME_DIR/sixin4/NAME.sock", nil},
	{config.LogFormat, "text|json", "how the log is written; default text", []string{"text", "json"}},
}

// addSettings gives cmd a flag for each setting, which fills raw.
func addSettings(cmd *cobra.Command, raw config.Raw) {
	f := cmd.Flags()
	for _, s := range settings {
		f.Var(setting{raw, s.key, s.value}, string(s.key), s.help)
		if s.values != nil {
			// The only error is a flag that does not exist.
			_ = cmd.RegisterFlagCompletionFunc(string(s.key),
				cobra.FixedCompletions(s.values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	f.VarPF(setting{raw, config.Verbose, "bool"}, string(config.Verbose), "v", "log more").NoOptDefVal = "true"
}
