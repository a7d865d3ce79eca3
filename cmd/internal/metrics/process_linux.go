package metrics

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func ownUsage() usage {
	u := usage{cpu: -1, resident: -1, files: -1, max: -1}
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		u.cpu = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		u.resident = residentIn(string(statm))
	}
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.files = int64(len(files)) - 1 // the one that reads
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		u.max = int64(min(limit.Cur, 1<<62))
	}
	return u
}

// residentIn takes the second field of /proc/self/statm, which is in pages.
func residentIn(statm string) int64 {
	fields := strings.Fields(statm)
	if len(fields) < 2 {
		return -1
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return -1
	}
	return pages * int64(os.Getpagesize())
}
