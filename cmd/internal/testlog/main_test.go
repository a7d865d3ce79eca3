package main

import (
	"bytes"
	"strings"
	"testing"
)

func run(t *testing.T, lines string, strict bool) (out string, ok bool) {
	t.Helper()
	var b bytes.Buffer
	l := &log{out: &b, output: map[string][]string{}}
	if err := l.read(strings.NewReader(lines)); err != nil {
		t.Fatal(err)
	}
	ok = l.report(strict)
	return b.String(), ok
}

func TestVerdict(t *testing.T) {
	const pass = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
	skip := func(why string) string {
		return `{"Action":"output","Package":"p","Test":"TestB","Output":"` + why + `\n"}` + "\n" +
			`{"Action":"skip","Package":"p","Test":"TestB"}` + "\n"
	}
	for _, c := range []struct {
		name, in string
		strict   bool
		ok       bool
		says     string
	}{
		{"pass", pass, true, true, "1 passed, 0 failed, 0 skipped"},
		{"nothing ran", "", false, false, "0 passed"},
		{"a test failed", pass + `{"Action":"output","Package":"p","Test":"TestB","Output":"because\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestB"}`, false, false, "because"},
		{"a package did not build", pass + `{"Action":"build-output","ImportPath":"q","Output":"syntax error\n"}` + "\n" + `{"Action":"fail","Package":"q"}`, false, false, "syntax error"},
		{"unexpected skip", pass + skip("not root"), true, false, "p TestB"},
		{"unexpected skip, not strict", pass + skip("not root"), false, true, "not root"},
		{"allowed skip", pass + skip("kernel feature: sit"), true, true, "kernel feature: sit"},
		{"other words", pass + "go: downloading something", false, true, "go: downloading something"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, ok := run(t, c.in, c.strict)
			if ok != c.ok || !strings.Contains(out, c.says) {
				t.Errorf("verdict %v, want %v, on:\n%s", ok, c.ok, out)
			}
		})
	}
}
