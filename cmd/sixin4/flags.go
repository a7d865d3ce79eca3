package main

import (
	"slices"

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

// flag is a setting in --help.
type flag struct {
	key    config.Key
	value  string // what stands for it in --help
	help   string
	values []string // for the shell's completion
}

// upSettings and connectSettings are the flags that are keys of the file too, in
// the order of --help.
var (
	upSettings = slices.Concat([]flag{
		{config.Remote, "A.B.C.D", "the far end", nil},
		{config.Peers, "A.B.C.D=PREFIX[,...]", "instead of --remote: a peer of a hub and what is reached through it; repeatable", nil},
		{config.Local, "auto|A.B.C.D", "this end; auto, the default, is the address that packets to the far end leave from", []string{"auto"}},
		{config.Address, "ADDRESS/LENGTH", "IPv6 address of the interface; repeatable", nil},
		{config.Route, "PREFIX", "route PREFIX into the tunnel, ::/0 for everything; none by default; repeatable", []string{"::/0"}},
	}, commonSettings)

	connectSettings = slices.Concat([]flag{
		{config.Servers, "HOST[:PORT]", "the broker: a name, an IPv4 address or [an IPv6 address]; the port is 3653 by default; repeatable, tried in order", nil},
		{config.Auth, "METHOD", "any, anonymous, plain, digest-md5 or scram-sha-256; any, the default, is the best of both sides, anonymous without a user, never plain", []string{"any", "anonymous", "plain", "digest-md5", "scram-sha-256"}},
		{config.User, "NAME", "the account", nil},
		{config.PasswordFile, "FILE", "its password is the first line of FILE; or else of the variable SIXIN4_PASSWORD", nil},
		{config.Mode, "v6anyv4|v6v4", "how packets travel; v6v4 is protocol 41; v6anyv4, the default, is whatever works, which for now is v6v4 only", []string{"v6anyv4", "v6v4"}},
		{config.Transport, "auto|udp|tcp", "how the broker is spoken to; auto, the default, is the first of the two that answers", []string{"auto", "udp", "tcp"}},
		{config.NoRoute, "bool", "leave the default route alone; otherwise it goes into the tunnel", nil},
		{config.Router, "bool", "ask for a prefix, as long as the account has it", nil},
		{config.PrefixLength, "N", "ask for a prefix of N bits, usually 48 to 64", nil},
		{config.LAN, "INTERFACE[=SUBNET]", "the LAN for the prefix, TSP_HOME_INTERFACE of scripts, and which /64 of it in hexadecimal", nil},
		{config.ReverseDNS, "NAME", "name server that gets the reverse zone of the prefix; repeatable, at most 8", nil},
		{config.Local, "auto|A.B.C.D", "this end; auto, the default, is the address that packets to the broker leave from, and the tunnel follows when it changes", []string{"auto"}},
		{config.Proxy, "bool", "the tunnel ends at --local, on another host, which --script or --on-up sets up: nothing is carried here", nil},
		{config.Keepalive, "TIME", "how often to ask whether the far end is there, like 30s, the default; the broker may choose a longer time; 0 for never", nil},
		{config.RetryDelay, "TIME", "wait before the second attempt; default 30s", nil},
		{config.RetryMax, "TIME", "what that grows to; default 5m", nil},
		{config.Once, "bool", "negotiate, print the result, and exit without keeping a tunnel; a tunnel that the same account has is lost by it", nil},
		{config.BrokerList, "FILE", "keeps the brokers of a redirection", nil},
		{config.LastServer, "FILE", "keeps the broker that worked last", nil},
		{config.AlwaysSame, "bool", "use only the broker in --last-server, once there is one", nil},
		{config.Script, "FILE", "set the tunnel up by this template script, with TSP_* variables, instead of doing it ourselves", nil},
		{config.HomeDir, "DIRECTORY", "TSP_HOME_DIR for scripts; default: that of --script, or else that of the control socket", nil},
		{config.OnUp, "COMMAND", "run by a shell when the tunnel is set up, with TSP_* variables", nil},
		{config.OnDown, "COMMAND", "the same before it is taken down", nil},
	}, commonSettings)

	commonSettings = []flag{
		{config.Name, "INTERFACE", "name of the interface; default: the first free of sixin4-0, sixin4-1, ...", nil},
		{config.MTU, "auto|N", "largest IPv6 packet in bytes; auto, the default, follows the way to the far end, less 20; N, 1280 to 65515, is fixed, and Don't Fragment is clear outside", []string{"auto", "1280", "1480"}},
		{config.TTL, "N|inherit", "time to live outside, 1 to 255; default 64; inherit takes the hop limit inside", []string{"64", "inherit"}},
		{config.TOS, "N|inherit", "DSCP outside, 0 to 252 and a multiple of 4, because the ECN bits follow RFC 6040; default 0", []string{"0", "inherit"}},
		{config.Queues, "auto|N", "queues of the TUN device, each with a thread; default auto", []string{"auto", "1", "2"}},
		{config.Wire, "auto|raw|packet", "how IPv4 packets are sent: raw is a raw socket; packet hands them to the link, faster and past this host's firewall, NAT and IPsec; auto, the default, is packet as long as none of these would see them, and raw otherwise", []string{"auto", "raw", "packet"}},
		{config.Socket, "PATH", "control socket; default: /run/sixin4/NAME.sock, or, when that cannot be written, $XDG_RUNTIME_DIR/sixin4/NAME.sock", nil},
		{config.LogFormat, "text|json", "how the log is written; default text", []string{"text", "json"}},
	}
)

// addSettings gives cmd a flag for each of flags, which fills raw.
func addSettings(cmd *cobra.Command, raw config.Raw, flags []flag) {
	f := cmd.Flags()
	for _, s := range flags {
		added := f.VarPF(setting{raw, s.key, s.value}, string(s.key), "", s.help)
		if config.IsSwitch(s.key) {
			added.NoOptDefVal = "true"
		}
		if s.values != nil {
			// The only error is a flag that does not exist.
			_ = cmd.RegisterFlagCompletionFunc(string(s.key),
				cobra.FixedCompletions(s.values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	f.VarPF(setting{raw, config.Verbose, "bool"}, string(config.Verbose), "v", "log more").NoOptDefVal = "true"
}
