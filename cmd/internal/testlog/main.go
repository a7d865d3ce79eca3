// Command testlog makes the output of go test -json readable: a line for each
// package, the whole output of tests that failed, and every skipped test with
// its reason. With -strict a skip is a failure, unless its reason names a kernel
// feature that the kernels we test on are known to lack.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// missing are the kernel features whose absence may skip a test.
var missing = []string{"kernel feature: sit", "kernel feature: TCX"}

// event is one line of go test -json (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// log collects the output of each test until its end is known.
type log struct {
	out     io.Writer
	output  map[string][]string // by package and test
	passed  int
	failed  int
	skipped int
	broken  int      // packages that failed, or did not even build
	bad     []string // skips that should not be
}

func main() {
	strict := flag.Bool("strict", false, "fail on unexpected skips")
	flag.Parse()
	l := &log{out: os.Stdout, output: map[string][]string{}}
	if err := l.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(1)
	}
	if !l.report(*strict) {
		os.Exit(1)
	}
}

func (l *log) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(l.out, lines.Text()) // go's own words, such as a download
			continue
		}
		l.event(e)
	}
	return lines.Err()
}

func (l *log) event(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(l.out, e.Output)
	case "output":
		l.keep(key, e)
	case "pass":
		if e.Test != "" {
			l.passed++
		}
		delete(l.output, key)
	case "fail":
		if e.Test != "" {
			l.failed++
		} else {
			l.broken++
		}
		l.print(key)
	case "skip":
		if e.Test != "" {
			l.skip(e, key)
		}
	}
}

// keep stores a line of a test and prints the verdict on a package at once.
func (l *log) keep(key string, e event) {
	switch {
	case strings.HasPrefix(e.Output, "=== "): // RUN, PAUSE and the like
	case e.Test == "" && (strings.HasPrefix(e.Output, "ok") || strings.HasPrefix(e.Output, "FAIL\t")):
		fmt.Fprint(l.out, e.Output)
	default:
		l.output[key] = append(l.output[key], e.Output)
	}
}

// print writes what was kept of a test.
func (l *log) print(key string) {
	for _, s := range l.output[key] {
		fmt.Fprint(l.out, s)
	}
	delete(l.output, key)
}

func (l *log) skip(e event, key string) {
	l.skipped++
	reason := strings.Join(l.output[key], "")
	l.print(key)
	for _, m := range missing {
		if strings.Contains(reason, m) {
			return
		}
	}
	l.bad = append(l.bad, key)
}

// report prints the totals and tells whether all is well.
func (l *log) report(strict bool) bool {
	fmt.Fprintf(l.out, "%d passed, %d failed, %d skipped\n", l.passed, l.failed, l.skipped)
	if l.failed > 0 || l.broken > 0 || l.passed == 0 {
		return false
	}
	if strict && len(l.bad) > 0 {
		fmt.Fprintf(l.out, "skipped without a reason that is allowed here:\n\t%s\n", strings.Join(l.bad, "\n\t"))
		return false
	}
	return true
}
