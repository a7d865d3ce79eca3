package proxy

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPublishComplaints: strangers do not fill the log while the published server is down.
func TestPublishComplaints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s, err := New(Config{Network: deaf{}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		var silent complaint
		come := func(times int) {
			for range times {
				c, stranger := net.Pipe()
				s.answer(t.Context(), c, Publish{80, "nowhere"}, &silent)
				_ = stranger.Close()
			}
		}
		come(200)
		if n := strings.Count(log.String(), "untold=0\n"); n != 1 || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("log: %s", &log)
		}
		log.Reset()
		time.Sleep(complaintTime)
		come(2)
		if !strings.HasSuffix(log.String(), " untold=199\n") || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("log a minute later: %s", &log)
		}
	})
}
