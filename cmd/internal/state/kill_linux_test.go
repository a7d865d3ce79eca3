package state

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"sixin4/tun/nstest"
)

// childRole in the environment makes the test binary a child; its argument is a path.
const childRole = "STATE_TEST_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := runChild(role, os.Getenv(childRole+"_PATH")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	exitCode, done, err := nstest.MaybeReexec()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if done {
		os.Exit(exitCode)
	}
	goleak.VerifyTestMain(m)
}

// runChild waits for its input to end before it opens the file, and after it has told
// what came of it for ever, or for a kill.
func runChild(role, path string) error {
	_, err := io.Copy(io.Discard, os.Stdin)
	if err != nil {
		return err
	}
	f, err := Open(path)
	if errors.Is(err, ErrInUse) {
		fmt.Println("in use")
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Println("inherited", len(f.Inherited()))
	if role == "hold" {
		if _, err := f.Add(script("held")); err != nil {
			return err
		}
		fmt.Println("added")
		select {}
	}
	return churn(f)
}

// churn adds and removes records without end. It says +N once N is in the file, and -N
// before N leaves it.
func churn(f *File) error {
	tokens := make(map[int]Token)
	for n := 0; ; n++ {
		token, err := f.Add(script(fmt.Sprint(n)))
		if err != nil {
			return err
		}
		tokens[n] = token
		fmt.Printf("+%d\n", n)
		for old, token := range tokens {
			if rand.IntN(4) == 0 || len(tokens) > 8 {
				fmt.Printf("-%d\n", old)
				if err := f.Remove(token); err != nil {
					return err
				}
				delete(tokens, old)
			}
		}
	}
}

// child is a process of ours.
type child struct {
	cmd   *exec.Cmd
	input io.Closer
	out   *bufio.Reader
}

func startChild(t *testing.T, role, path string) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childRole+"="+role, childRole+"_PATH="+path)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in := must[io.WriteCloser](t)(cmd.StdinPipe())
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	must[any](t)(nil, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if errs.Len() > 0 {
			t.Errorf("child: %s", errs.String())
		}
	})
	return &child{cmd, in, bufio.NewReader(out)}
}

// line is the next thing that the child says, "" when it ended.
func (c *child) line() string {
	line, _ := c.out.ReadString('\n')
	return strings.TrimSuffix(line, "\n")
}

// kill is SIGKILL; what the child said before comes back.
func (c *child) kill(t *testing.T) []string {
	t.Helper()
	must[any](t)(nil, c.cmd.Process.Kill())
	rest := must[[]byte](t)(io.ReadAll(c.out))
	_ = c.cmd.Wait() // says that it was killed
	return strings.Fields(string(rest))
}

// TestKilled kills an owner 50 times at random moments: the next one finds every record
// that was in the file, and at most the one that was on its way in or out.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "six0.state")
	for range 50 {
		c := startChild(t, "churn", path)
		c.input.Close()
		if got := c.line(); got != "inherited 0" {
			t.Fatalf("child: %q", got)
		}
		var said []string
		for range 1 + rand.IntN(30) {
			said = append(said, c.line())
		}
		checkOwned(t, path)
		said = append(said, c.kill(t)...)
		checkLeft(t, path, said)
	}
	if got := entriesOf(t, filepath.Dir(path)); len(got) != 0 {
		t.Errorf("files in the end: %q", got)
	}
}

// checkOwned makes sure that nobody gets what a living owner has.
func checkOwned(t *testing.T, path string) {
	t.Helper()
	if got, err := Leftover(path); err != nil || got != nil {
		t.Errorf("left over while its owner lives: %v, %v", got, err)
	}
	if f, err := Open(path); !errors.Is(err, ErrInUse) {
		t.Errorf("opened while its owner lives: %v", err)
		if err == nil {
			f.Close()
		}
	}
}

// checkLeft compares the file with what its owner said, and undoes it.
func checkLeft(t *testing.T, path string, said []string) {
	t.Helper()
	if text, err := os.ReadFile(path); err == nil {
		if _, err := parse(text); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	f := must[*File](t)(Open(path))
	found := make(map[string]bool)
	for _, e := range f.Inherited() {
		found[e.Record.Script.Command] = true
		must[any](t)(nil, f.Remove(e.Token))
	}
	must[any](t)(nil, f.Close())
	expected := make(map[string]bool)
	for _, s := range said {
		if name, added := strings.CutPrefix(s, "+"); added {
			expected[name] = true
		} else {
			delete(expected, strings.TrimPrefix(s, "-"))
		}
	}
	for name := range expected {
		if !found[name] {
			t.Errorf("record %s is lost; the owner said %v", name, said)
		}
		delete(found, name)
	}
	if len(found) > 1 {
		t.Errorf("records %v are still there; the owner said %v", found, said)
	}
}

// TestRace starts several at once on what a killed one left: one of them gets it.
func TestRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "six0.state")
	killed := startChild(t, "hold", path)
	killed.input.Close()
	for _, want := range []string{"inherited 0", "added"} {
		if got := killed.line(); got != want {
			t.Fatalf("child: %q, want %q", got, want)
		}
	}
	killed.kill(t)
	var all []*child
	for range 8 {
		all = append(all, startChild(t, "hold", path))
	}
	for _, c := range all {
		c.input.Close()
	}
	won := 0
	for _, c := range all {
		switch got := c.line(); got {
		case "inherited 1":
			won++
		case "in use":
		default:
			t.Errorf("child: %q", got)
		}
	}
	if won != 1 {
		t.Errorf("%d of them own the file", won)
	}
}
