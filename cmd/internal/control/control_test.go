package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

func tunnel(name string) Tunnel {
	return Tunnel{
		Name: name, Mode: "static", State: "up", Wire: "raw", Local: "192.0.2.1", Remote: "198.51.100.1",
		Addresses: []string{"2001:db8::2/64"}, MTU: 1480, Since: now.Add(-90 * time.Second),
		Tx: Count{10, 1000}, Rx: Count{20, 2 << 20}, Drops: map[string]uint64{"not-peer": 3, "ecn": 40, "too-big": 3},
		Peers: []Peer{{
			Remote: "198.51.100.1", Prefixes: []string{"::/0"}, MTU: 1480, LastHeard: now.Add(-2 * time.Second),
			Tx: Count{10, 1000}, Rx: Count{20, 2 << 20},
		}},
	}
}

// serve runs a server for a tunnel called name until the test ends.
func serve(t *testing.T, path, name string) *Server {
	t.Helper()
	s, err := Listen(Config{Path: path, Status: func() Tunnel { return tunnel(name) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestGet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "six0.sock")
	serve(t, path, "six0")
	got, err := Get(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Status{Tunnels: []Tunnel{tunnel("six0")}}); !reflect.DeepEqual(got, want) {
		t.Errorf("Get:\n got %+v\nwant %+v", got, want)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket: mode %v, %v; want 0660", info.Mode(), err)
	}
}

// request sends one request as it stands and returns the answer's first line.
func request(t *testing.T, path, text string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func TestOtherRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "six0.sock")
	serve(t, path, "six0")
	for _, tt := range []struct{ name, request, want string }{
		{"status", "GET /v1/status HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"},
		{"other path", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 404 Not Found"},
		{"other method", "POST /v1/status HTTP/1.0\r\n\r\n", "HTTP/1.0 405 Method Not Allowed"},
		{"no HTTP", "status\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		{"long header", "GET /v1/status HTTP/1.0\r\nX: " + strings.Repeat("x", 1<<16) + "\r\n\r\n",
			"HTTP/1.1 431 Request Header Fields Too Large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := request(t, path, tt.request); got != tt.want {
				t.Errorf("answer %q, want %q", got, tt.want)
			}
		})
	}
}

func TestListenErrors(t *testing.T) {
	dir := t.TempDir()
	live := filepath.Join(dir, "live.sock")
	serve(t, live, "live")
	file := filepath.Join(dir, "file.sock")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path, want string }{
		{"live socket", live, "control socket " + live + ": a tunnel is running on this socket already"},
		{"another file", file, "control socket " + file + ": exists and is not a socket"},
		{"no directory", dir + "/a/b/c.sock", "control socket " + dir + "/a/b/c.sock: no such file or directory (--socket PATH puts it elsewhere)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Listen(Config{Path: tt.path}); err == nil || err.Error() != tt.want {
				t.Errorf("Listen: %v, want %s", err, tt.want)
			}
		})
	}
	if _, err := os.Stat(live); err != nil {
		t.Errorf("the live socket: %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "text" {
		t.Errorf("the other file: %q, %v", text, err)
	}
}

// leaveStale leaves a socket as a killed process does.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}

func TestListenReplacesStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "six0.sock")
	leaveStale(t, path)
	serve(t, path, "six0")
	if _, err := Get(context.Background(), path); err != nil {
		t.Error(err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sixin4")
	path := filepath.Join(dir, "six0.sock")
	s, err := Listen(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory after Close: %v, want it gone", err)
	}
	if err := s.Run(context.Background()); err != nil {
		t.Errorf("Run after Close: %v", err)
	}
}

func TestCollect(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name+".sock") }
	serve(t, path("six0"), "six0")
	serve(t, path("six1"), "six1")
	leaveStale(t, path("stale"))
	got, err := Collect(context.Background(), []string{path("six0"), path("gone"), path("stale"), path("six1")})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Tunnels) != 2 || got.Tunnels[0].Name != "six0" || got.Tunnels[1].Name != "six1" {
		t.Errorf("Collect: %v, want six0 and six1", got.Tunnels)
	}
	if none, err := Collect(context.Background(), nil); err != nil || none.Tunnels == nil || len(none.Tunnels) != 0 {
		t.Errorf("Collect of nothing: %v, %v; want an empty list", none.Tunnels, err)
	}
}

// TestEndsWhileAsked has processes that end a conversation before they have answered, in
// all the ways there are. With the socket closed too there is no tunnel; with it open one
// behaves badly, which is said in plain words.
func TestEndsWhileAsked(t *testing.T) {
	for name, hangUp := range map[string]func(net.Conn){
		"at once":           func(net.Conn) {},
		"after the request": func(c net.Conn) { c.Read(make([]byte, 4096)) },
		"amid the answer": func(c net.Conn) {
			c.Read(make([]byte, 4096))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
		},
	} {
		for _, ends := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ends %v", name, ends), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "s.sock")
				l, err := net.Listen("unix", path)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				done := make(chan struct{})
				go func() {
					defer close(done)
					c, err := l.Accept()
					if err != nil {
						return
					}
					hangUp(c)
					if ends {
						l.Close()
					}
					c.Close()
				}()
				_, err = Collect(t.Context(), []string{path})
				<-done
				if ends != (err == nil) || err != nil && strings.Contains(err.Error(), "http://") {
					t.Errorf("Collect: %v", err)
				}
			})
		}
	}
}

// TestHungDaemon has one socket that takes connections and says nothing, beside
// one that works.
func TestHungDaemon(t *testing.T) {
	dir := t.TempDir()
	hung, fine := filepath.Join(dir, "hung.sock"), filepath.Join(dir, "fine.sock")
	l, err := net.Listen("unix", hung)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	serve(t, fine, "fine")
	got, err := Collect(context.Background(), []string{hung, fine})
	if err == nil || err.Error() != hung+": no answer in 5s" {
		t.Errorf("error %v, want %s: no answer in 5s", err, hung)
	}
	if len(got.Tunnels) != 1 || got.Tunnels[0].Name != "fine" {
		t.Errorf("tunnels %v, want fine", got.Tunnels)
	}
}

// TestStrangeAnswers has other programs on the socket.
func TestStrangeAnswers(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"not found", http.NotFound, "not the status of a tunnel: 404 Not Found"},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
			"not the status of a tunnel: invalid character '<' looking for beginning of value"},
		{"another shape", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"tunnels": 1}`) },
			"not the status of a tunnel: json: cannot unmarshal number into Go struct field Status.tunnels of type []control.Tunnel"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.sock")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: tt.handler}
			ended := make(chan struct{})
			go func() { server.Serve(l); close(ended) }()
			defer func() { server.Close(); <-ended }()
			if _, err := Get(context.Background(), path); err == nil || err.Error() != path+": "+tt.want {
				t.Errorf("Get: %v, want %s: %s", err, path, tt.want)
			}
		})
	}
}

func TestGetCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Get(ctx, filepath.Join(t.TempDir(), "s.sock")); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v, want %v", err, context.Canceled)
	}
}

func TestPathAndSockets(t *testing.T) {
	base := t.TempDir()
	first, second := filepath.Join(base, "no", "sixin4"), filepath.Join(base, "sixin4")
	dirs := []string{first, second}
	if got := Path(dirs, "six0"); got != second+"/six0.sock" {
		t.Errorf("Path: %s; want it in the second, the first cannot be made", got)
	}
	if got := Path(dirs[:1], "six0"); got != first+"/six0.sock" {
		t.Errorf("Path without a good directory: %s; want it in the first", got)
	}
	if _, err := os.Stat(second); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Path made the directory: %v", err)
	}
	serve(t, second+"/six0.sock", "six0")
	serve(t, second+"/six1.sock", "six1")
	if got := Sockets(dirs, ""); !reflect.DeepEqual(got, []string{second + "/six0.sock", second + "/six1.sock"}) {
		t.Errorf("Sockets: %v", got)
	}
	if got := Sockets(dirs, "six1"); !reflect.DeepEqual(got, []string{second + "/six1.sock"}) {
		t.Errorf("Sockets of six1: %v", got)
	}
}

func TestDirs(t *testing.T) {
	for _, tt := range []struct {
		runtime string
		want    []string
	}{
		{"", []string{"/run/sixin4"}},
		{"/run/user/1000", []string{"/run/sixin4", "/run/user/1000/sixin4"}},
		{"relative", []string{"/run/sixin4"}},
	} {
		if got := Dirs(tt.runtime); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Dirs(%q) = %v, want %v", tt.runtime, got, tt.want)
		}
	}
}

// TestDrain: a broker hears it, another tunnel says that it is none.
func TestDrain(t *testing.T) {
	var heard []bool
	for _, c := range []struct {
		name  string
		drain func(bool)
		want  string
	}{
		{"broker", func(on bool) { heard = append(heard, on) }, ""},
		{"tunnel", nil, "not a broker: 404 Not Found"},
	} {
		path := filepath.Join(t.TempDir(), "s")
		s, err := Listen(Config{Path: path, Status: func() Tunnel { return Tunnel{} }, Drain: c.drain})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		for _, on := range []bool{true, false} {
			err := Drain(ctx, path, on)
			if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != path+": "+c.want) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			}
		}
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(heard, []bool{true, false}) {
		t.Errorf("the broker heard %v", heard)
	}
}
