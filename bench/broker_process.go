package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// processState is what a process has now.
type processState struct {
	rss   float64 // bytes in memory
	anon  float64 // of them what is not a part of a file, such as the program's own
	files float64 // descriptors that are open
}

// metricsAddr is where tspd says how many goroutines it has.
const metricsAddr = "127.0.0.1:9641"

// goroutines asks tspd how many it has.
func (m *brokers) goroutines(ctx context.Context) (float64, error) {
	var d net.Dialer
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = m.topo.B.Do(func() error {
			c, err = d.DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metricsAddr+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := t.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	for s := bufio.NewScanner(answer.Body); s.Scan(); {
		if text, ok := strings.CutPrefix(s.Text(), "go_goroutines "); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, fmt.Errorf("metrics of tspd: %s, without go_goroutines", answer.Status)
}
