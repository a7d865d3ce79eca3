package load

import (
	"bytes"
	"fmt"
	"strings"
)

// badMessages are what nobody with good will says, by TCP.
func badMessages() [][]byte {
	const in = "VERSION=2.0.2\r\nAUTHENTICATE ANONYMOUS\r\n"
	framed := func(doc string) []byte {
		return fmt.Appendf(nil, "%sContent-length: %d\r\n%s", in, len(doc), doc)
	}
	garbage := make([]byte, 2000)
	fill(garbage)
	return [][]byte{
		garbage,
		[]byte(strings.Repeat("A", 100_000)),
		[]byte(in + "Content-length: 999999999\r\n<tunnel action=\"create\""),
		[]byte(in + "Content-length: -1\r\n"),
		framed(entities()),
		framed(strings.Repeat("<a>", 10_000)),
		framed("<tunnel " + strings.Repeat(`a="b" `, 5000) + "/>"),
		bytes.Repeat([]byte("\x00"), 100_000),
	}
}

// entities is the one in which each entity is ten of the one before.
func entities() string {
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\"?>\n<!DOCTYPE tunnel [<!ENTITY e0 \"ha\">\n")
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&b, "<!ENTITY e%d \"%s\">\n", i, strings.Repeat(fmt.Sprintf("&e%d;", i-1), 10))
	}
	b.WriteString("]>\n<tunnel action=\"create\">&e9;</tunnel>\r\n")
	return b.String()
}
