package cli

import (
	"github.com/spf13/cobra"

	"sixin4/cmd/internal/config"
)

// Setting is a flag that is a key of the configuration file too, as --help has it.
type Setting struct {
	Key    config.Key
	Value  string // what stands for its value in --help
	Help   string
	Values []string // for the shell's completion
}

// Flag is a Setting of its four fields.
func Flag(key config.Key, value, help string, values ...string) Setting {
	return Setting{Key: key, Value: value, Help: help, Values: values}
}

// Common are the settings of every tunnel but its name, in the order of --help, and
// without --verbose, which AddSettings adds.
var Common = []Setting{
	Flag(config.MTU, "auto|probe|N", "largest IPv6 packet in bytes; auto, the default, follows the way to the far end, less 20; probe asks the far end what really arrives, where ICMP is filtered on the way, and begins with 1280; N, 1280 to 65515, is fixed, and Don't Fragment is clear outside", "auto", "probe", "1280", "1480"),
	Flag(config.ClampMSS, "auto|off|N", "largest segment that TCP may offer through the tunnel, never raised; auto, the default, is what the tunnel carries when that is less than 1500 bytes a packet", "auto", "off"),
	Flag(config.TTL, "N|inherit", "time to live outside, 1 to 255; default 64; inherit takes the hop limit inside", "64", "inherit"),
	Flag(config.TOS, "N|inherit", "DSCP outside, 0 to 252 and a multiple of 4, because the ECN bits follow RFC 6040; default 0", "0", "inherit"),
	Flag(config.Queues, "auto|N", "queues of the TUN device, each with a thread; default auto", "auto", "1", "2"),
	Flag(config.Wire, "auto|raw|packet|bpf", "how IPv4 packets are sent: raw is a raw socket; packet hands them to the link, faster and past this host's firewall, NAT and IPsec; with bpf the kernel itself carries most packets, in both directions, past the same; auto, the default, is bpf or packet as long as none of these would see the packets, and raw otherwise", "auto", "raw", "packet", "bpf"),
	Flag(config.Socket, "PATH", "control socket; default: /run/sixin4/NAME.sock, or, when that cannot be written, $XDG_RUNTIME_DIR/sixin4/NAME.sock"),
	Flag(config.Metrics, "ADDRESS[:PORT]", "serve metrics for Prometheus, /healthz and /readyz at this address over HTTP, to whoever reaches it: best one of this host alone, 127.0.0.1:9641; default: nowhere", "127.0.0.1:9641"),
	Flag(config.LogFormat, "text|json", "how the log is written; default text", "text", "json"),
}

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

// AddSettings gives cmd a flag for each of all, and --verbose, which fill raw.
func AddSettings(cmd *cobra.Command, raw config.Raw, all []Setting) {
	AddOnly(cmd, raw, all)
	cmd.Flags().VarPF(setting{raw, config.Verbose, "bool"}, string(config.Verbose), "v", "log more").NoOptDefVal = "true"
}

// AddOnly is AddSettings without --verbose.
func AddOnly(cmd *cobra.Command, raw config.Raw, all []Setting) {
	f := cmd.Flags()
	for _, s := range all {
		added := f.VarPF(setting{raw, s.Key, s.Value}, string(s.Key), "", s.Help)
		if config.IsSwitch(s.Key) {
			added.NoOptDefVal = "true"
		}
		if s.Values != nil {
			// The only error is a flag that does not exist.
			_ = cmd.RegisterFlagCompletionFunc(string(s.Key),
				cobra.FixedCompletions(s.Values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
}
