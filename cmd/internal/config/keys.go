package config

// Key is the name of a setting: its flag without the dashes, and its key in the
// file.
type Key string

// The settings that all of `sixin4 up`, `sixin4 connect` and `tspd serve` share, of
// which tspd has no local.
const (
	Local     Key = "local"
	Name      Key = "name"
	MTU       Key = "mtu"
	TTL       Key = "ttl"
	TOS       Key = "tos"
	Queues    Key = "queues"
	Wire      Key = "wire"
	Socket    Key = "socket"
	Metrics   Key = "metrics"
	LogFormat Key = "log-format"
	Verbose   Key = "verbose"
	ClampMSS  Key = "clamp-mss"
)

// The settings that `sixin4 up` and `sixin4 connect` share.
const (
	BindInterface Key = "bind-interface"
	Keepalive     Key = "keepalive" // tspd has one too
	OnUp          Key = "on-up"
	OnDown        Key = "on-down"
)

// The settings of `sixin4 up` alone.
const (
	Remote  Key = "remote"
	Peers   Key = "peer"
	Address Key = "address"
	Route   Key = "route"
)

// The settings of `sixin4 connect` alone.
const (
	Servers      Key = "server"
	Auth         Key = "auth"
	User         Key = "user"
	PasswordFile Key = "password-file"
	Mode         Key = "mode"
	Transport    Key = "transport"
	NoRoute      Key = "no-route"
	Once         Key = "once"
	Router       Key = "router"
	PrefixLength Key = "prefix-length"
	LAN          Key = "lan"
	ReverseDNS   Key = "reverse-dns"
	Proxy        Key = "proxy"
	RetryDelay   Key = "retry-delay"
	RetryMax     Key = "retry-max"
	BrokerList   Key = "broker-list"
	LastServer   Key = "last-server"
	AlwaysSame   Key = "always-same-server"
	Script       Key = "script"
	HomeDir      Key = "home-dir"
)

// The settings of `tspd serve` alone.
const (
	Listen         Key = "listen"
	Prefix         Key = "prefix"
	State          Key = "state"
	KeyFile        Key = "key-file"
	Anonymous      Key = "anonymous"
	ConfigureHost  Key = "configure-host"
	DNS            Key = "dns"
	Lifetime       Key = "lifetime"
	Silence        Key = "silence"
	AnonymousLease Key = "anonymous-lease"
	Quarantine     Key = "quarantine"
	Iterations     Key = "iterations"
	Realm          Key = "realm"
	Redirect       Key = "redirect"
	RedirectAbove  Key = "redirect-above"
	Node           Key = "node"
	TunnelRate     Key = "tunnel-rate"
	BlockPorts     Key = "block-ports"
)

// The settings of the web pages of `tspd serve`.
const (
	Web          Key = "web"
	WebCert      Key = "web-cert"
	WebKey       Key = "web-key"
	WebURL       Key = "web-url"
	WebProxy     Key = "web-proxy"
	SignUp       Key = "sign-up"
	SignUpPrefix Key = "sign-up-prefix-length"
	SMTPServer   Key = "smtp-server"
	SMTPFrom     Key = "smtp-from"
	SMTPUser     Key = "smtp-user"
	SMTPPassword Key = "smtp-password-file"
	SMTPTLS      Key = "smtp-tls"
)

// The settings of accounts, which are in no file.
const (
	LegacyLogin Key = "legacy-login"
	Operator    Key = "operator"
	MaxTunnels  Key = "max-tunnels"
)

// oldPassword is the password in an old file. It has no flag and no key in TOML.
const oldPassword Key = "passwd"

// The values of Wire.
const (
	WireAuto   = auto
	WireRaw    = "raw"
	WirePacket = "packet"
	WireBPF    = "bpf"
)

// upOrder is every setting of `sixin4 up`.
var upOrder = []Key{
	Remote, Peers, Local, BindInterface, Address, Route, Keepalive, OnUp, OnDown, Name,
	MTU, ClampMSS, TTL, TOS, Queues, Wire, Socket, Metrics, LogFormat, Verbose,
}

// connectOrder is every setting of `sixin4 connect`, as --help and the reference
// file have them.
var connectOrder = []Key{
	Servers, Auth, User, PasswordFile, Mode, Transport,
	Name, NoRoute, Router, PrefixLength, LAN, ReverseDNS,
	Local, BindInterface, Proxy, Keepalive, RetryDelay, RetryMax, Once,
	BrokerList, LastServer, AlwaysSame, Script, HomeDir, OnUp, OnDown,
	MTU, ClampMSS, TTL, TOS, Queues, Wire, Socket, Metrics, LogFormat, Verbose,
}

// brokerOrder is every setting of `tspd serve`, as --help and the reference file have
// them.
var brokerOrder = []Key{
	Prefix, Listen, Anonymous, ConfigureHost, State, KeyFile, Node, Name, DNS, Redirect, RedirectAbove,
	TunnelRate, BlockPorts,
	Lifetime, Keepalive, Silence, AnonymousLease, Quarantine, Iterations, Realm,
	Web, WebCert, WebKey, WebURL, WebProxy, SignUp, SignUpPrefix,
	SMTPServer, SMTPFrom, SMTPUser, SMTPPassword, SMTPTLS,
	MTU, ClampMSS, TTL, TOS, Queues, Wire, Socket, Metrics, LogFormat, Verbose,
}

// lists are the settings that may be given several times.
var lists = map[Key]bool{
	Peers: true, Address: true, Route: true, Servers: true, ReverseDNS: true,
	Listen: true, DNS: true, Redirect: true, WebProxy: true, PublishTCP: true,
}

// withCommas are the settings whose one value is a list with commas, which a file may also
// give as a list of its own. One without anything in it is the empty text.
var withCommas = map[Key]bool{BlockPorts: true}

// switches are the settings whose values are true and false.
var switches = map[Key]bool{
	Verbose: true, NoRoute: true, Once: true, Router: true, Proxy: true, AlwaysSame: true,
	Anonymous: true, ConfigureHost: true, DirectIPv4: true, LegacyLogin: true, Operator: true,
}

// IsList reports whether key may be given several times.
func IsList(key Key) bool { return lists[key] }

// IsSwitch reports whether the values of key are true and false, so that its flag
// alone means true.
func IsSwitch(key Key) bool { return switches[key] }
