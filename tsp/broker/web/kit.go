package web

import (
	"fmt"
	"net/netip"
	"strings"

	"sixin4/tsp/broker/store"
)

// kit is what sets up the other end of a tunnel, to be copied.
type kit []recipe

// recipe is one way to do it.
type recipe struct {
	ID, Title, Note string
	Files           []file
}

// file is lines for one place: the path of a file, or "Shell".
type file struct{ Name, Text string }

// placeholder stands where only the user knows what belongs there.
const placeholder = "YOUR-PASSWORD"

// kit is for a user. What needs an address is in it when there is a lease.
func (s *Site) kit(u store.User, l store.Lease) kit {
	k := kit{s.connectRecipe(u), s.tspcRecipe(u)}
	if l.Client6.IsValid() {
		k = append(k, s.ipRecipe(u, l), s.networkdRecipe(u, l))
	}
	return append(k, s.updateRecipe(u, l))
}

// lines joins those that are not empty.
func lines(all ...string) string {
	var b strings.Builder
	for _, line := range all {
		if line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// when is text if ok.
func when(ok bool, format string, args ...any) string {
	if !ok {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// quote makes a text one word for a shell.
func quote(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-:/@", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 && text[0] != '-' {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func (s *Site) connectRecipe(u store.User) recipe {
	return recipe{
		ID: "connect", Title: "sixin4",
		Note: "For a host or container of any kind. It stays in the foreground, and needs root or the capabilities NET_ADMIN and NET_RAW.",
		Files: []file{{"Shell", lines(
			"mkdir -p /etc/sixin4 && (umask 077; cat > /etc/sixin4/password)   # type the password, Enter, Ctrl-D",
			"sixin4 connect --server "+quote(s.config.Server)+" --user "+quote(u.Name)+" \\",
			"    --password-file /etc/sixin4/password"+when(u.PrefixLen > 0, " --prefix-length %d", u.PrefixLen),
		)}},
	}
}

func (s *Site) tspcRecipe(u store.User) recipe {
	note := "For tspc, gw6c and gogoCLIENT, and for the tspc of sixin4: tspc -vf tspc.conf"
	if !u.Legacy {
		note = "For the tspc of sixin4: tspc -vf tspc.conf. Older clients need legacy login, which the operator can switch on for you."
	}
	kind := "host"
	if u.PrefixLen > 0 {
		kind = "router"
	}
	return recipe{ID: "tspc", Title: "tspc.conf", Note: note, Files: []file{{"tspc.conf", lines(
		"auth_method=any",
		"client_v4=auto",
		"userid="+u.Name,
		"passwd="+placeholder,
		"template=linux",
		"server="+s.config.Server,
		"retry_delay=30",
		"tunnel_mode=v6v4",
		"if_tunnel_v6v4=sit1",
		"if_tunnel_v6udpv4=tun",
		"proxy_client=no",
		"keepalive=yes",
		"keepalive_interval=30",
		"host_type="+kind,
		when(u.PrefixLen > 0, "prefixlen=%d", u.PrefixLen),
		when(u.PrefixLen > 0, "if_prefix=eth0"),
	)}}}
}

func (s *Site) ipRecipe(u store.User, l store.Lease) recipe {
	return recipe{
		ID: "ip", Title: "Linux, by hand",
		Note: "For a kernel that has sit, on a host with a public IPv4 address. The last line tells the broker where you are; repeat it when the address changes.",
		Files: []file{{"Shell", lines(
			"ip tunnel add sixin4 mode sit remote "+s.config.End.String()+" local any ttl 64",
			fmt.Sprintf("ip link set sixin4 mtu %d up", s.config.MTU),
			"ip -6 address add "+host(l.Client6)+" dev sixin4",
			"ip -6 route add default dev sixin4",
			when(l.Prefix.IsValid(), "ip -6 route add unreachable %s", l.Prefix),
			s.curl(u, l),
		)}},
	}
}

func (s *Site) networkdRecipe(u store.User, l store.Lease) recipe {
	return recipe{
		ID: "networkd", Title: "systemd-networkd",
		Note: "The same from one start to the next. Then: networkctl reload, and tell the broker where you are.",
		Files: []file{
			{"/etc/systemd/network/50-sixin4.netdev", lines(
				"[NetDev]", "Name=sixin4", "Kind=sit", fmt.Sprintf("MTUBytes=%d", s.config.MTU),
			) + "\n" + lines(
				"[Tunnel]", "Local=any", "Remote="+s.config.End.String(), "TTL=64", "Independent=yes",
			)},
			{"/etc/systemd/network/50-sixin4.network", lines("[Match]", "Name=sixin4") + "\n" +
				lines("[Network]", "Address="+host(l.Client6)) + "\n" + lines("[Route]", "Destination=::/0") +
				when(l.Prefix.IsValid(), "\n[Route]\nDestination=%s\nType=unreachable\n", l.Prefix)},
			{"Shell", s.curl(u, l) + "\n"},
		},
	}
}

func (s *Site) updateRecipe(u store.User, l store.Lease) recipe {
	return recipe{
		ID: "update", Title: "Router with a dyndns client",
		Note: "The protocol is dyndns2. User and password are those of your account; the host name is the one in the address below. " +
			"Your router must answer ping6 through the tunnel.",
		Files: []file{{"Update URL", s.updateURL(u, l) + "\n"}, {"Shell", s.curl(u, l) + "\n"}},
	}
}

func (s *Site) updateURL(u store.User, l store.Lease) string {
	name := l.ID
	if name == "" {
		name = u.Name
	}
	at := *s.config.URL
	at.Path = "/nic/update"
	q := at.Query()
	q.Set("hostname", name)
	at.RawQuery = q.Encode()
	return at.String()
}

// curl asks for the password.
func (s *Site) curl(u store.User, l store.Lease) string {
	return "curl -4 -u " + quote(u.Name) + " '" + strings.ReplaceAll(s.updateURL(u, l), "'", "%27") + "'"
}

// host is an address with its full length.
func host(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }
