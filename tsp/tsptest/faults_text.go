package tsptest

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"sixin4/tsp"
)

// says is a fault that says one thing at every step; behind create it is framed.
func says(name string, o Outcome, text string) Fault {
	bare, command := []byte(text), framed(text) // made once: some are large
	return Fault{Name: name, Outcome: o, text: func(s Step, _ []byte) []byte {
		if s >= Create {
			return command
		}
		return bare
	}}
}

// body changes an answer, and counts it again if it had a Content-length.
func body(name string, o Outcome, f func([]byte) []byte) Fault {
	return Fault{Name: name, Outcome: o, text: func(_ Step, text []byte) []byte {
		inner := unframed(text)
		if len(inner) == len(text) {
			return f(inner)
		}
		return framed(string(f(inner)))
	}}
}

// texts are faults of how a good answer is written.
func texts() []Fault {
	bareLF := Fault{Name: "bare LF", Outcome: Works, text: func(_ Step, text []byte) []byte {
		inner := unframed(text)
		lf := strings.ReplaceAll(string(inner), "\r\n", "\n")
		if len(inner) == len(text) {
			return []byte(lf)
		}
		return fmt.Appendf(nil, "Content-length: %d\n%s", len(lf), lf)
	}}
	prefix := func(name string, o Outcome, s string) Fault {
		return Fault{Name: name, Outcome: o, text: func(_ Step, text []byte) []byte { return append([]byte(s), text...) }}
	}
	insert := func(name, s string) Fault {
		return body(name, Open, func(text []byte) []byte {
			half := len(text) / 2
			return []byte(string(text[:half]) + s + string(text[half:]))
		})
	}
	return []Fault{
		bareLF,
		body("no line end", Open, func(text []byte) []byte { return bytes.TrimRight(text, "\r\n") }),
		prefix("zero bytes in front", Works, "\x00\x00"),
		prefix("many zero bytes in front", Fails, strings.Repeat("\x00", 100)),
		prefix("a line in front", Fails, "Welcome\r\n"),
		prefix("an empty line in front", Fails, "\r\n"),
		insert("invalid UTF-8", "\xff\xfe\x80"),
		insert("a zero byte within", "\x00"),
		insert("terminal escapes within", "\x1b]0;owned\x07\x1b[2J"),
		insert("an empty line within", "\r\n\r\n"),
		says("binary garbage", Fails, strings.Repeat("\x80\xff\x00\x1b", 50)+"\r\n"),
		says("an empty line", Fails, "\r\n"),
		says("HTTP", Fails, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
	}
}

// Status answers with a status line, at create with a Content-length.
func Status(line string) Fault { return says("status "+line, Fails, line+"\r\n") }

// statuses are faults of status lines.
func statuses() []Fault {
	var all []Fault
	for _, line := range []string{
		"0", "000 Zero", "99 Two digits", "100 Continue", "199 None", "201 Created", "299 Odd", "999 None", "900 None",
		"2000 None", "20000 Success", "-200 Success", "+200 Success", "2e2 Success", "200Success", "٢٠٠ Success",
		"300 Authentication failed", "302 Unsupported client version", "310 Server side error", "530 Server busy", "599 Negotiation took too long",
	} {
		all = append(all, Status(line))
	}
	long, escapes := Status("310 "+strings.Repeat("x", 5000)), Status("310 \x1b]0;owned\x07\x1b[2J\x1b[31m\u202egnp.exe\x00")
	long.Name, escapes.Name = "a long status line", "a status line with terminal escapes"
	bare := says("an error without Content-length", Fails, "310 Unsupported client tunnel\r\n")
	bare.text = func(Step, []byte) []byte { return []byte("310 Unsupported client tunnel\r\n") }
	return append(all, long, escapes, bare)
}

// lists are faults of broker lists. None of them has a broker to go to.
func lists() []Fault {
	list := func(entry string, n int) string {
		return "1200 Redirection\r\n<tunnel action=\"info\"><broker>" + strings.Repeat(entry, n) + "</broker></tunnel>\r\n"
	}
	one := `<address type="ipv4">192.0.2.11</address>`
	return []Fault{
		says("1200 without list", Fails, "1200 Redirection\r\n"),
		says("1999 without list", Fails, "1999 None\r\n"),
		says("an empty list", Fails, list("", 1)),
		says("51 brokers", Fails, list(one, 51)),
		says("10000 brokers", Fails, list(one, 10000)),
		says("a list cut short", Fails, "1200 Redirection\r\n<tunnel action=\"info\"><broker>"+one),
		says("a list with a command", Fails, list(`<address type="dn">$(reboot)</address>`, 1)),
		says("a list of the wrong family", Fails, list(`<address type="ipv4">2001:db8::1</address>`, 1)),
		says("a list of multicast", Fails, list(`<address type="ipv4">224.0.0.1</address>`, 1)),
		says("a list with entities", Fails, `1200 Redirection`+"\r\n"+laughs+`<tunnel><broker>&b;</broker></tunnel>`+"\r\n"),
	}
}

const laughs = `<!DOCTYPE t [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>`

// big are the documents that are too large to be made for every test again.
var big = sync.OnceValue(func() []Fault {
	success := tsp.Success.String() + "\r\n"
	const start = `<tunnel action="info" type="v6v4"`
	of := func(name, doc string) Fault {
		text := framed(success + doc)
		list := []byte("1200 Redirection\r\n" + doc)
		return Fault{Name: name, Outcome: Fails, text: func(s Step, _ []byte) []byte {
			if s < Create {
				return list // read without a Content-length that would give it away
			}
			return text
		}}
	}
	return []Fault{
		of("a million elements deep", start+">"+strings.Repeat("<a>", 1e6)),
		of("a million elements", start+">"+strings.Repeat("<a/>", 1e6)+"</tunnel>"),
		of("a million attributes", start+strings.Repeat(` a="b"`, 1e6)+"/>"),
		of("an attribute of a megabyte", start+` a="`+strings.Repeat("b", 1e6)+`"/>`),
	}
})

// bombs are documents that are more work than they look.
func bombs() []Fault {
	all := big()
	const start, end = `<tunnel action="info" type="v6v4"`, "</tunnel>\r\n"
	for _, doc := range []struct{ name, text string }{
		{"entities", laughs + start + ">&b;" + end},
		{"an external entity", `<!DOCTYPE t [<!ENTITY a SYSTEM "file:///etc/passwd">]>` + start + ">&a;" + end},
		{"elements as deep as fits", start + ">" + strings.Repeat("<a>", 2000) + strings.Repeat("</a>", 2000) + end},
		{"as many elements as fit", start + ">" + strings.Repeat("<a/>", 4000) + end},
		{"as many attributes as fit", start + strings.Repeat(` a="b"`, 2600) + ">" + end},
		{"as many comments as fit", start + ">" + strings.Repeat("<!---->", 2000) + end},
		{"CDATA", start + "><![CDATA[<a>]]>" + end},
		{"another encoding", `<?xml version="1.0" encoding="utf-16"?>` + start + ">" + end},
		{"not closed", start + ">"},
		{"no tunnel", "<broker></broker>\r\n"},
		{"an empty tunnel", start + ">" + end},
	} {
		all = append(all, onCreate("XML: "+doc.name, Fails, func([]byte) []byte { return []byte(doc.text) }))
	}
	return append(all,
		onCreate("XML: invalid UTF-8", Fails, between(`<client>`, "\xff\xfe")),
		onCreate("XML: a zero byte", Fails, between(`<client>`, "\x00")),
		onCreate("XML: a control character", Fails, between(`<client>`, "\x1b[2J")),
		onCreate("XML: unknown elements", Works, between(`<client>`, `<x a="b"><y/></x>`)),
		onCreate("XML: white space", Works, func(b []byte) []byte {
			return regexp.MustCompile(`>([0-9a-f:.]+)<`).ReplaceAll(b, []byte(">\t $1 \r\n<"))
		}),
	)
}

// onCreate changes the XML of the offer.
func onCreate(name string, o Outcome, f func(xml []byte) []byte) Fault {
	return Fault{Name: name, Steps: []Step{Create}, Outcome: o, text: func(_ Step, text []byte) []byte {
		status, xml, _ := strings.Cut(string(unframed(text)), "\r\n")
		return framed(status + "\r\n" + string(f([]byte(xml))))
	}}
}

// between puts text behind a tag.
func between(tag, text string) func([]byte) []byte {
	return func(xml []byte) []byte { return bytes.Replace(xml, []byte(tag), []byte(tag+text), 1) }
}
