package tsptest

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// The places of an offer that faults change; what is matched by the first group stays.
const (
	server4   = `(?s)(<server>.*?"ipv4">)[^<]*`
	server6   = `(?s)(<server>.*?"ipv6">)[^<]*`
	client4   = `(?s)(<client>.*?"ipv4">)[^<]*`
	client6   = `(?s)(<client>.*?"ipv6">)[^<]*`
	resolver  = `(?s)(<dns_server>.*?"ipv6">)[^<]*`
	lifetime  = `( lifetime=")[^"]*`
	kind      = `(<tunnel action="info" type=")[^"]*`
	keepalive = `(<keepalive interval=")[^"]*`
	pinged    = `(?s)(<keepalive .*?"ipv6">)[^<]*`
	attribute = `(<tunnel)`
	endClient = `(?s)(.*<keepalive.*</keepalive>)`
)

// Edit is the offer with one place changed: pattern is a regular expression of which
// the first group stays and the rest becomes text. A place that is not there, such as
// the keepalive of an offer without one, stays that way.
func Edit(name string, o Outcome, pattern, text string) Fault {
	re := regexp.MustCompile(pattern)
	return onCreate(name, o, func(xml []byte) []byte {
		at := re.FindSubmatchIndex(xml)
		if at == nil {
			return xml
		}
		return []byte(string(xml[:at[3]]) + text + string(xml[at[1]:]))
	})
}

// offers are tunnels that must not be set up. They need an offer with keepalive.
func offers() []Fault {
	var all []Fault
	each := func(what, pattern string, values ...string) {
		for _, v := range values {
			all = append(all, Edit(fmt.Sprintf("%s %.40q", what, v), Fails, pattern, v))
		}
	}
	noEnd := []string{
		"", "many", "192.0.2.2", "::", "::1", "::2001:db8", "::ffff:192.0.2.2", "fe80::1", "fec0::1", "febf::1", "ff02::1", "ff0e::2",
		"2001:db8::1%eth0", "2001:db8::1/64", "2001:db8::g", "2001:db8::1 2001:db8::2", "$(reboot)",
	}
	each("server6", server6, noEnd...)
	each("client6", client6, noEnd...)
	each("keepalive to", pinged, noEnd...)
	each("resolver", resolver, noEnd[1:]...) // an empty one is none
	for _, end := range []struct{ name, pattern string }{{"server4", server4}, {"client4", client4}} {
		each(end.name, end.pattern, "", "many", "2001:db8::1", "0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2", "192.0.2.2;reboot", "010.0.0.1")
	}
	each("client6 of the server", client6, "2001:db8:aa::1")
	each("type", kind, "", "v6anyv4", "v4v6", "gre", "v6v4;reboot")
	each("lifetime", lifetime, "", "0", "-1", "many", "1e9", "315360001", "9223372036854775807", "9223372036854775808", "18446744073709551616", strings.Repeat("9", 1000))
	each("keepalive", keepalive, "", "0", "-1", "many", "86401", "1000000000", "9223372036854775808")
	each("mtu", attribute, ` mtu="0"`, ` mtu="1279"`, ` mtu="65536"`, ` mtu="-1"`, ` mtu="many"`, ` mtu="99999999999999999999"`)
	each("name", client4+`</address>`, name("$(reboot)"), name("a;b"), name("../../etc/passwd"), name("-rf"), name("a\r\nTSP_X=y"), name("a b"), name(strings.Repeat("a", 64)), name(strings.Repeat("a.", 127)+"aa"))
	each("prefix", endClient, prefix("64", "fe80::"), prefix("64", "ff02::"), prefix("64", "::"), prefix("48", "2001:db8::1"), prefix("0", "::"), prefix("16", "2001::"),
		prefix("129", "2001:db8::"), prefix("-1", "2001:db8::"), prefix("", "2001:db8::"), prefix("64", ""), prefix("64", "192.0.2.0"), prefix("64", "2001:db8::/64"))
	each("resolvers", `(<dns_server>)`, strings.Repeat(`<address type="ipv6">2001:db8::53</address>`, 9))
	return append(all,
		Edit("unique local client6", Works, client6, "fd00::2"),
		Edit("compressed client6", Works, client6, "2001:DB8:aa::2"),
		Edit("ten years", Works, lifetime, "315360000"),
		Edit("keepalive once a day", Works, keepalive, "86400"),
		Edit("a prefix", Works, endClient, prefix("56", "2001:db8:f00::")),
	)
}

func name(s string) string { return `192.0.2.2</address><address type="dn">` + s + `</address>` }

func prefix(length, text string) string {
	return fmt.Sprintf(`<router><prefix length="%s">%s</prefix></router>`, length, text)
}

// OwnNetwork are offers that would cut a client off from a network of its own.
func OwnNetwork(own netip.Prefix) []Fault {
	in := own.Masked().Addr().Next().Next().String()
	whole := own.Masked()
	return []Fault{
		Edit("client6 in "+own.String(), Fails, client6, in),
		Edit("server6 in "+own.String(), Fails, server6, in),
		Edit("prefix "+own.String(), Fails, endClient, prefix(fmt.Sprint(whole.Bits()), whole.Addr().String())),
		Edit("prefix around "+own.String(), Fails, endClient, prefix("32", netip.PrefixFrom(whole.Addr(), 32).Masked().Addr().String())),
	}
}
