package web

import (
	"context"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"sixin4/tsp/broker/store"
)

// screenshots is the variable that names a directory for pictures of the pages.
const screenshots = "SIXIN4_SCREENSHOTS"

// screen is a tab of a browser.
type screen struct {
	t    *testing.T
	ctx  context.Context
	base string
}

// chromium starts a browser without a window; the test is skipped where there is none.
func chromium(t *testing.T) (ctx context.Context) {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("needs chromium (apt-get install chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("no-proxy-server", true))
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	if err := chromedp.Do(ctx); err != nil { // starts it
		t.Fatal(err)
	}
	return ctx
}

// run does things in the tab, and fails when they do not work.
func (s *screen) run(what string, steps ...chromedp.Action[chromedp.Void]) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// read does something in the tab that has a result.
func read[T any](s *screen, what string, action chromedp.Action[T]) T {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	return v
}

// open loads a page and waits for its headline.
func (s *screen) open(path, headline string) {
	s.t.Helper()
	s.run("open "+path, chromedp.Navigate(s.base+path))
	s.shows(headline)
}

// shows wants a headline.
func (s *screen) shows(headline string) {
	s.t.Helper()
	s.run("wait for "+headline, chromedp.WaitVisible(`//h1[contains(., "`+headline+`")]`))
}

// fill types into the fields of a form, given as pairs, sends it and waits for the answer:
// who opens another page before it came would break the sending off.
func (s *screen) fill(action string, pairs ...string) {
	s.t.Helper()
	form := `form[action="` + action + `"] `
	for i := 0; i < len(pairs); i += 2 {
		s.run("type "+pairs[i], chromedp.SendKeys(form+"#"+pairs[i], pairs[i+1]))
	}
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(form+"button")); err != nil {
		s.t.Fatalf("send %s: %v", action, err)
	}
}

// look keeps a picture of the page on a screen of some width, light or dark, if that is
// asked for.
func (s *screen) look(name string, width int64, scheme string) {
	s.t.Helper()
	dir := os.Getenv(screenshots)
	if dir == "" {
		return
	}
	s.run("look at "+name, chromedp.EmulateViewport(width, 800))
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	if _, err := chromedp.Call(s.ctx, emulation.SetEmulatedMedia, media); err != nil {
		s.t.Fatal(err)
	}
	image := read(s, "picture of "+name, chromedp.FullScreenshot(100))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), image, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// noScroll wants a page that fits into the width of a small telephone.
func (s *screen) noScroll(name string) {
	s.t.Helper()
	s.run("measure "+name, chromedp.EmulateViewport(320, 800))
	wide := read(s, "measure "+name, chromedp.Evaluate[int](`document.documentElement.scrollWidth`))
	if wide > 320 {
		s.t.Errorf("%s is %d wide on a screen of 320", name, wide)
	}
}

// TestChromium signs up, is approved, logs in and looks at all pages, with scripts
// allowed and forbidden.
func TestChromium(t *testing.T) {
	browser := chromium(t)
	for _, script := range []bool{true, false} {
		t.Run(map[bool]string{true: "script", false: "no script"}[script], func(t *testing.T) {
			box := make(postbox, 1)
			h := newHouse(t, func(c *Config) { c.URL, c.Mailer = &url.URL{Scheme: "http", Host: "broker.example.net"}, box })
			ctx, cancel := chromedp.NewContext(browser)
			defer cancel()
			s := &screen{t, ctx, "http://" + h.run(nil)}
			off := emulation.SetScriptExecutionDisabledParams{Value: !script}
			if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, off); err != nil {
				t.Fatal(err)
			}
			h.populate()
			s.walk(h, script)
			s.forget(h, box, script)
		})
	}
}

// postbox is a Mailer whose mails somebody waits for.
type postbox chan string

func (p postbox) Send(ctx context.Context, _, _, text string) error {
	select {
	case p <- text:
	case <-ctx.Done():
	}
	return nil
}

// forget has somebody forget a password, and choose another one by the link in the mail.
func (s *screen) forget(h *house, box postbox, pictures bool) {
	look := func(name string) {
		s.t.Helper()
		if pictures {
			s.noScroll(name)
			s.look(name, 1100, "light")
		}
	}
	s.fill("/logout")
	s.shows("IPv6 for every host")
	s.open("/login", "Log in")
	s.run("follow the link", chromedp.Click(`//a[@href="/forgot"]`))
	s.shows("Forgot your password?")
	look("forgot")
	s.fill("/forgot", "who", "anna@example.net")
	s.shows("Forgot your password?")
	look("forgot-sent")
	var text string
	select {
	case text = <-box:
	case <-time.After(10 * time.Second):
		s.t.Fatal("no mail comes")
	}
	link := resetIn.FindStringSubmatch(text)
	if link == nil {
		s.t.Fatalf("no link in %s", text)
	}
	s.open(link[1], "Choose another password")
	look("reset")
	s.fill("/reset", "new", "another-good-password", "again", "another-good-password")
	s.shows("Log in")
	s.fill("/login", "name", "anna", "password", "another-good-password")
	s.shows("My tunnel")
}

// populate gives the broker users, tunnels and traffic.
func (h *house) populate() {
	h.addUser("root", isOperator)
	for i, name := range []string{"anna", "bertil", "cecilia", "david"} {
		u := h.addUser(name, func(u *store.User) { u.Email, u.Confirmed, u.Disabled = name+"@example.net", true, name == "david" })
		if !u.Disabled {
			h.up(u, netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}).String())
		}
	}
	now := time.Now()
	var up, down uint64
	for i := range maxSamples - 1 {
		up += uint64(2_000_000 + 1_500_000*((i/7)%5) + 90_000*(i%13))
		down += uint64(6_000_000 + 2_500_000*((i/11)%6) + 200_000*(i%17))
		h.site.traffic.add(sample{now.Add(time.Duration(i-maxSamples+2) * sampleTime), up, down})
	}
	h.backend.mu.Lock()
	defer h.backend.mu.Unlock()
	h.backend.totals = Totals{Tunnels: 3, Up: Count{1_200_000, up}, Down: Count{3_400_000, down}, Dropped: 321}
}

// walk goes through the pages as people do. Pictures are taken once.
func (s *screen) walk(h *house, pictures bool) {
	look := func(name string) {
		s.t.Helper()
		if pictures {
			s.noScroll(name)
			s.look(name, 1100, "light")
			switch name {
			case "home", "operator", "operator-users", "tunnel":
				s.look(name+"-dark", 1100, "dark")
				s.look(name+"-small", 320, "light")
			}
		}
	}
	s.open("/", "IPv6 for every host")
	look("home")
	s.open("/sign-up", "Sign up")
	look("sign-up")
	s.fill("/sign-up", "name", "alice", "email", "alice@example.net")
	s.shows("One more step")
	look("requested")
	link := read(s, "the link", chromedp.Text("figure pre"))
	link = strings.TrimPrefix(strings.TrimSpace(link), "http://broker.example.net")
	s.open(link, "Waiting for the operator")

	s.open("/login", "Log in")
	look("login")
	s.fill("/login", "name", "root", "password", "wrong")
	s.run("see why not", chromedp.WaitVisible(".problem"))
	s.fill("/login", "password", password)
	s.shows("My tunnel")
	s.open("/operator", "Operator")
	look("operator")
	s.open("/operator/requests", "Operator")
	look("operator-requests")
	s.run("approve", chromedp.Click(`form[action$="/approve"] button`), chromedp.WaitVisible(".notice"))
	s.open("/operator/users", "Operator")
	look("operator-users")
	s.open("/operator/tunnels", "Operator")
	look("operator-tunnels")
	s.fill("/logout")
	s.shows("IPv6 for every host")

	s.open(link, "Welcome")
	s.fill("/welcome")
	s.shows("Your account")
	look("account")
	secret := read(s, "the password", chromedp.Text("#the-password"))
	s.open("/login", "Log in")
	s.fill("/login", "name", "alice", "password", secret)
	s.shows("My tunnel")
	s.fill("/tunnel/reserve")
	s.shows("My tunnel")
	alice, err := h.store.UserByName(s.t.Context(), "alice")
	if err != nil {
		s.t.Fatal(err)
	}
	h.up(alice, "203.0.113.9")
	s.open("/tunnel", "My tunnel")
	s.run("unfold", chromedp.Click(`//summary[contains(., "Linux, by hand")]`))
	look("tunnel")
	s.open("/password", "Change the password")
	look("password")
}
