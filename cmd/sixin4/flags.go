package main

import (
	"slices"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
)

var bindInterface = cli.Flag(config.BindInterface, "INTERFACE", "outer packets leave and come by this interface, where there are several ways out; default: whatever the routes say")

// upSettings and connectSettings are the flags that are keys of the file too, in
// the order of --help.
var (
	upSettings = slices.Concat([]cli.Setting{
		cli.Flag(config.Remote, "A.B.C.D", "the far end"),
		cli.Flag(config.Peers, "A.B.C.D=PREFIX[,...]", "instead of --remote: a peer of a hub and what is reached through it; repeatable; or a rule: 6to4[=GATEWAY4], 6rd=PREFIX,V4MASKLEN,RELAY4, isatap=ROUTER4[,...]"),
		cli.Flag(config.Local, "auto|A.B.C.D", "this end; auto, the default, is the address that packets to the far end leave from, and the tunnel moves when that changes", "auto"),
		bindInterface,
		cli.Flag(config.Address, "ADDRESS/LENGTH", "IPv6 address of the interface; repeatable"),
		cli.Flag(config.Route, "PREFIX", "route PREFIX into the tunnel, ::/0 for everything; none by default; repeatable", "::/0"),
		cli.Flag(config.Keepalive, "ADDRESS[,TIME]", "ask the far end by its IPv6 address in the tunnel whether it is there, every 30s by default; status, metrics and log say so"),
		cli.Flag(config.OnUp, "PROGRAM", "run this program with its arguments when the tunnel comes up, with TSP_* variables; no shell reads it"),
		cli.Flag(config.OnDown, "PROGRAM", "the same when it goes down"),
	}, commonSettings)

	connectSettings = slices.Concat([]cli.Setting{
		cli.Flag(config.Servers, "HOST[:PORT]", "the broker: a name, an IPv4 address or [an IPv6 address]; the port is 3653 by default; repeatable, tried in order"),
		cli.Flag(config.Auth, "METHOD", "any, anonymous, plain, digest-md5 or scram-sha-256; any, the default, is the best of both sides, anonymous without a user, never plain", "any", "anonymous", "plain", "digest-md5", "scram-sha-256"),
		cli.Flag(config.User, "NAME", "the account"),
		cli.Flag(config.PasswordFile, "FILE", "its password is the first line of FILE; or else of the variable SIXIN4_PASSWORD"),
		cli.Flag(config.Mode, "v6anyv4|v6v4|v6udpv4", "how packets travel; v6v4 is protocol 41, v6udpv4 is UDP, which passes NAT; v6anyv4, the default, is what works", "v6anyv4", "v6v4", "v6udpv4"),
		cli.Flag(config.Transport, "auto|udp|tcp", "how the broker is spoken to; auto, the default, is the first of the two that answers", "auto", "udp", "tcp"),
		cli.Flag(config.NoRoute, "bool", "leave the default route alone; otherwise it goes into the tunnel"),
		cli.Flag(config.Router, "bool", "ask for a prefix, as long as the account has it"),
		cli.Flag(config.PrefixLength, "N", "ask for a prefix of N bits, usually 48 to 64"),
		cli.Flag(config.LAN, "INTERFACE[=SUBNET]", "the LAN for the prefix, TSP_HOME_INTERFACE of scripts, and which /64 of it in hexadecimal"),
		cli.Flag(config.ReverseDNS, "NAME", "name server that gets the reverse zone of the prefix; repeatable, at most 8"),
		cli.Flag(config.Local, "auto|A.B.C.D", "this end; auto, the default, is the address that packets to the broker leave from, and the tunnel follows when it changes", "auto"),
		bindInterface,
		cli.Flag(config.Proxy, "bool", "the tunnel ends at --local, on another host, which --script or --on-up sets up: nothing is carried here"),
		cli.Flag(config.Keepalive, "TIME", "how often to ask whether the far end is there, like 30s, the default; the broker may choose a longer time; 0 for never"),
		cli.Flag(config.RetryDelay, "TIME", "wait before the second attempt; default 30s"),
		cli.Flag(config.RetryMax, "TIME", "what that grows to; default 5m"),
		cli.Flag(config.Once, "bool", "negotiate, print the result, and exit without keeping a tunnel; a tunnel that the same account has is lost by it"),
		cli.Flag(config.BrokerList, "FILE", "keeps the brokers of a redirection"),
		cli.Flag(config.LastServer, "FILE", "keeps the broker that worked last"),
		cli.Flag(config.AlwaysSame, "bool", "use only the broker in --last-server, once there is one"),
		cli.Flag(config.Script, "FILE", "set the tunnel up by this template script, with TSP_* variables, instead of doing it ourselves"),
		cli.Flag(config.HomeDir, "DIRECTORY", "TSP_HOME_DIR for scripts; default: that of --script, or else that of the control socket"),
		cli.Flag(config.OnUp, "COMMAND", "run by a shell when the tunnel is set up, with TSP_* variables"),
		cli.Flag(config.OnDown, "COMMAND", "the same before it is taken down"),
	}, commonSettings)

	commonSettings = slices.Concat([]cli.Setting{
		cli.Flag(config.Name, "INTERFACE", "name of the interface; default: the first free of sixin4-0, sixin4-1, ..."),
	}, cli.Common)
)
