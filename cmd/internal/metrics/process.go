package metrics

import (
	"runtime"
	"time"
)

// Build is what a program says of itself.
type Build struct {
	Program string // as it is called
	Version string // empty: not known
}

func (p *Page) build(b Build) {
	p.Gauge("sixin4_build_info", "Program, its version and that of Go; always 1.", 1,
		"program", b.Program, "version", b.Version, "goversion", runtime.Version())
}

// usage is what the operating system says of this process. What is negative is
// not known.
type usage struct {
	cpu        time.Duration // of all threads, in user space and kernel
	resident   int64         // bytes of memory
	files, max int64         // descriptors that are open, and that may be
}

// began is when the process did, near enough.
var began = time.Now()

// process adds what this process uses, under the names that all programs with
// Prometheus have for it.
func (p *Page) process() {
	p.Gauge("go_goroutines", "Goroutines that exist.", float64(runtime.NumGoroutine()))
	p.time("process_start_time_seconds", "When the process began, in seconds since 1970.", began)
	u := ownUsage()
	if u.cpu >= 0 {
		p.add("process_cpu_seconds_total", "Time of processors that the process has used.", "counter", u.cpu.Seconds(), nil)
	}
	for _, g := range []struct {
		name, help string
		n          int64
	}{
		{"process_resident_memory_bytes", "Memory of the process.", u.resident},
		{"process_open_fds", "File descriptors that are open.", u.files},
		{"process_max_fds", "File descriptors that may be open.", u.max},
	} {
		if g.n >= 0 {
			p.Gauge(g.name, g.help, float64(g.n))
		}
	}
}
