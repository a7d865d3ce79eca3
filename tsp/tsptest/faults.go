package tsptest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sixin4/tsp"
)

// Faults are all faults that need no further choice: what a hostile test goes through.
func Faults() []Fault {
	return slices.Concat(
		[]Fault{Silence(), Late(time.Second), Slow(time.Millisecond), Slow(time.Minute), Cut(0), Cut(1), Cut(20)},
		order(), endless(), lengths(), texts(), statuses(), lists(), bombs(), offers(),
	)
}

// Silence says nothing, and listens on.
func Silence() Fault {
	return Fault{
		Name: "silence", Outcome: Fails, unanswered: true,
		stream:  func(context.Context, io.Writer, []byte) error { return nil },
		packets: func(tsp.Header, []byte) [][]byte { return nil },
	}
}

// Late answers after a while.
func Late(after time.Duration) Fault {
	return Fault{Name: fmt.Sprintf("late by %v", after), delay: after}
}

// Slow writes a byte at a time, with a gap behind each.
func Slow(gap time.Duration) Fault {
	return Fault{
		Name: fmt.Sprintf("a byte every %v", gap), Network: "tcp",
		stream: func(ctx context.Context, w io.Writer, text []byte) error {
			for i := range text {
				if _, err := w.Write(text[i : i+1]); err != nil {
					return err
				}
				if err := pause(ctx, gap); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// Cut says the first n bytes only; a stream is closed behind them.
func Cut(n int) Fault {
	return Fault{
		Name: fmt.Sprintf("cut at %d", n),
		stream: func(_ context.Context, w io.Writer, text []byte) error {
			if n > 0 {
				if _, err := w.Write(text[:min(n, len(text))]); err != nil {
					return err
				}
			}
			return errHangUp
		},
		packets: func(h tsp.Header, text []byte) [][]byte { return [][]byte{h.Datagram(text[:min(n, len(text))])} },
	}
}

// CutDatagram sends the first n bytes of the datagram, its header counted.
func CutDatagram(n int) Fault {
	return Fault{
		Name: fmt.Sprintf("datagram cut at %d", n), Network: "udp",
		Outcome: Fails, unanswered: n < tsp.HeaderLen,
		packets: func(h tsp.Header, text []byte) [][]byte {
			b := h.Datagram(text)
			return [][]byte{b[:min(n, len(b))]}
		},
	}
}

// OneSegment writes answers in a row in one piece.
func OneSegment() Fault { return Fault{Name: "one segment", join: true, Outcome: Works} }

// order are faults of which answer comes when.
func order() []Fault {
	another := func(h tsp.Header, by uint32) tsp.Header {
		return tsp.Header{Word: h.Word + by, Timestamp: h.Timestamp}
	}
	no := tsp.ServerError.Message(false).Bytes()
	data := append([]byte{0x60}, make([]byte, 59)...)
	packets := func(name string, o Outcome, f func(h tsp.Header, text []byte) [][]byte) Fault {
		return Fault{Name: name, Network: "udp", Outcome: o, unanswered: o == Fails, packets: f}
	}
	return []Fault{
		OneSegment(),
		{Name: "answers in a row the wrong way round", join: true, reverse: true},
		{Name: "the answer of another step", Outcome: Fails, text: ofAnotherStep},
		{Name: "the whole session at once", Steps: []Step{Hello}, Network: "tcp", text: wholeSession},
		packets("wrong sequence", Fails, func(h tsp.Header, text []byte) [][]byte {
			return [][]byte{another(h, 1).Datagram(text)}
		}),
		packets("sequence 0", Fails, func(h tsp.Header, text []byte) [][]byte {
			return [][]byte{tsp.Header{Word: 0xf0000000, Timestamp: h.Timestamp}.Datagram(text)}
		}),
		packets("only a datagram of data", Fails, func(tsp.Header, []byte) [][]byte { return [][]byte{data} }),
		packets("only an empty datagram", Fails, func(tsp.Header, []byte) [][]byte { return [][]byte{{}} }),
		packets("next answer first", Works, func(h tsp.Header, text []byte) [][]byte {
			return [][]byte{another(h, 1).Datagram(no), h.Datagram(text)}
		}),
		packets("answer before first", Works, func(h tsp.Header, text []byte) [][]byte {
			return [][]byte{another(h, ^uint32(0)).Datagram(no), h.Datagram(text)}
		}),
		packets("twice", Works, func(h tsp.Header, text []byte) [][]byte {
			return [][]byte{h.Datagram(text), h.Datagram(text)}
		}),
		packets("data first", Works, func(h tsp.Header, text []byte) [][]byte { return [][]byte{data, h.Datagram(text)} }),
		packets("forgotten first", Works, func(h tsp.Header, text []byte) [][]byte {
			return [][]byte{tsp.Header{Word: 0xffffffff}.Datagram(no), h.Datagram(text)}
		}),
		packets("timestamp of somebody else", Works, func(h tsp.Header, text []byte) [][]byte {
			return [][]byte{tsp.Header{Word: h.Word, Timestamp: ^h.Timestamp}.Datagram(text)}
		}),
		packets("a flood first", Works, func(h tsp.Header, text []byte) [][]byte {
			return append(slices.Repeat([][]byte{another(h, 7).Datagram(no)}, 100), h.Datagram(text))
		}),
		CutDatagram(0), CutDatagram(1), CutDatagram(7),
	}
}

// capability is what a broker might say to VERSION.
const capability = "CAPABILITY TUNNEL=V6V4 TUNNEL=V6UDPV4 AUTH=ANONYMOUS AUTH=PLAIN AUTH=DIGEST-MD5 AUTH=SCRAM-SHA-256\r\n"

func ofAnotherStep(s Step, _ []byte) []byte {
	switch s {
	case Hello:
		return tsp.Success.Message(false).Bytes()
	case Create:
		return tsp.Success.Message(true).Bytes()
	}
	return []byte(capability)
}

func wholeSession(_ Step, text []byte) []byte {
	return slices.Concat(text, tsp.Success.Message(false).Bytes(), framed(tsp.Success.String()+"\r\n"+plainOffer))
}

// plainOffer is an offer as a broker of others might write it.
const plainOffer = `<tunnel action="info" type="v6v4" lifetime="1440"><server><address type="ipv4">192.0.2.1</address>` +
	`<address type="ipv6">2001:db8:aa::1</address></server><client><address type="ipv4">192.0.2.2</address>` +
	`<address type="ipv6">2001:db8:aa::2</address></client></tunnel>` + "\r\n"

// endless are streams without end; in a datagram they are as long as that can be.
func endless() []Fault {
	of := func(name, text string) Fault {
		chunk := bytes.Repeat([]byte(text), 4096/len(text)+1)
		return Fault{
			Name: "endless " + name, Outcome: Fails,
			stream: func(_ context.Context, w io.Writer, _ []byte) error {
				for {
					if _, err := w.Write(chunk); err != nil {
						return err
					}
				}
			},
			packets: func(h tsp.Header, _ []byte) [][]byte {
				b := h.Datagram(bytes.Repeat(chunk, maxDatagram/len(chunk)+1))
				return [][]byte{b[:maxDatagram]}
			},
		}
	}
	return []Fault{
		of("line", "x"), of("lines", "x\r\n"), of("empty lines", "\r\n"), of("zero bytes", "\x00"),
		of("digits", "2"), of("lengths", "Content-length: 100\r\n"), of("list", "1200 Redirection\r\n<tunnel><broker>"+strings.Repeat(" ", 4000)),
	}
}

// lengths are faults of Content-length. What has none gets one.
func lengths() []Fault {
	of := func(name string, o Outcome, value func(n int) string) Fault {
		return Fault{Name: "Content-length " + name, Outcome: o, text: func(_ Step, text []byte) []byte {
			body := unframed(text)
			return append([]byte("Content-length: "+value(len(body))+"\r\n"), body...)
		}}
	}
	constant := func(s string) func(int) string { return func(int) string { return s } }
	off := func(by int) func(int) string { return func(n int) string { return fmt.Sprint(n + by) } }
	return []Fault{
		of("of a gigabyte", Fails, constant("1073741824")),
		of("2^31", Fails, constant("2147483648")),
		of("2^64", Fails, constant("18446744073709551616")),
		of("below zero", Fails, constant("-1")),
		of("zero", Fails, constant("0")),
		of("missing", Fails, constant("")),
		of("in words", Fails, constant("many")),
		of("with a sign", Fails, constant("+16")),
		of("in hexadecimal", Fails, constant("0x100")),
		of("with a fraction", Fails, constant("100.5")),
		of("of many digits", Fails, constant(strings.Repeat("1", 1<<14))),
		of("too large by one", Fails, off(1)),
		of("too large by a thousand", Fails, off(1000)),
		of("too small by one", Open, off(-1)),
		of("half", Open, func(n int) string { return fmt.Sprint(n / 2) }),
		of("one", Open, constant("1")),
		of("told twice", Open, func(n int) string { return fmt.Sprintf("%d\r\nContent-length: %d", n, n) }),
	}
}

// framed puts Content-length in front.
func framed(body string) []byte { return fmt.Appendf(nil, "Content-length: %d\r\n%s", len(body), body) }

// unframed takes it off, if there is one.
func unframed(text []byte) []byte {
	if head, body, ok := bytes.Cut(text, []byte("\r\n")); ok && bytes.HasPrefix(head, []byte("Content-length:")) {
		return body
	}
	return text
}
