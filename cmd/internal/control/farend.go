package control

import (
	"fmt"
	"time"
)

// text says how the far end answers.
func (f FarEnd) text(now time.Time) string {
	text := fmt.Sprintf("%s %s", f.Address, f.State)
	if !f.Since.IsZero() {
		text += " for " + age(f.Since, now)
	}
	text += fmt.Sprintf(", %d of %d requests answered", f.Answered, f.Sent)
	if f.RTT > 0 {
		text += fmt.Sprintf(", the last in %.1f ms", f.RTT*1000)
	}
	return text
}

// text says how far the search is.
func (p PathMTU) text() string {
	switch p.Phase {
	case "complete":
		return fmt.Sprintf("carries %d bytes, as %s answers", p.MTU, p.Address)
	case "silent":
		return fmt.Sprintf("%d bytes, because %s does not answer", p.MTU, p.Address)
	}
	return fmt.Sprintf("%d bytes so far, asking %s for more", p.MTU, p.Address)
}
