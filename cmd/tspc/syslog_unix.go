//go:build unix

package main

import (
	"fmt"
	"log/syslog"
	"strings"
)

var facilities = map[string]syslog.Priority{
	"USER":   syslog.LOG_USER,
	"LOCAL0": syslog.LOG_LOCAL0, "LOCAL1": syslog.LOG_LOCAL1, "LOCAL2": syslog.LOG_LOCAL2, "LOCAL3": syslog.LOG_LOCAL3,
	"LOCAL4": syslog.LOG_LOCAL4, "LOCAL5": syslog.LOG_LOCAL5, "LOCAL6": syslog.LOG_LOCAL6, "LOCAL7": syslog.LOG_LOCAL7,
}

// dialSyslog opens the system's log.
func dialSyslog(facility string) (system, error) {
	f, ok := facilities[strings.ToUpper(facility)]
	if !ok {
		return nil, fmt.Errorf("syslog: no facility %q", facility)
	}
	w, err := syslog.New(f|syslog.LOG_INFO, "tspc")
	if err != nil {
		return nil, fmt.Errorf("syslog: %w", err)
	}
	return w, nil
}
