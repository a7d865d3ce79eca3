package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func processOf(pid int) (processState, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return processState{}, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return processState{}, err
	}
	return processState{
		rss: 1024 * statusField(string(status), "VmRSS:"), anon: 1024 * statusField(string(status), "RssAnon:"),
		files: float64(len(files)),
	}, nil
}

// statusField is the number of a line of /proc/PID/status, 0 when there is none.
func statusField(status, name string) float64 {
	_, rest, _ := strings.Cut(status, "\n"+name)
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseFloat(fields[0], 64)
	return n
}

// cpuOf is the processor time of all threads that a process has, to the nanosecond:
// what /proc/PID/stat says comes in hundredths of a second.
func cpuOf(pid int) (sum time.Duration, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// yieldProcessors raises the nice value of all threads of this process. Those that come
// later have that of the thread that makes them.
func yieldProcessors(nice int) error {
	const dir = "/proc/self/task"
	threads, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, nice); err != nil {
			return fmt.Errorf("nice value: %w", err)
		}
	}
	return nil
}
