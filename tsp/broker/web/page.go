package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"sixin4/tsp/broker/store"
)

//go:embed templates/*.html
var templates embed.FS

//go:embed style.css
var styleSheet []byte

// styleVersion changes with the style sheet, which browsers may keep.
var styleVersion = func() string {
	sum := sha256.Sum256(styleSheet)
	return hex.EncodeToString(sum[:6])
}()

// Texts of pages that say why there is nothing else.
const (
	notFoundText = "There is nothing here."
	ownFaultText = "Something went wrong here. It is noted, and not your fault; please try again later."
)

// pages are the templates by name.
type pages map[string]*template.Template

var functions = template.FuncMap{
	"bytes": formatBytes, "ago": ago, "moment": moment, "count": formatCount, "under": strings.HasPrefix,
}

// readPages reads all templates. Each has the layout around it.
func readPages() (pages, error) {
	layout, err := template.New("layout.html").Funcs(functions).ParseFS(templates, "templates/layout.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		return nil, err
	}
	all := make(pages)
	for _, name := range names {
		t, err := template.Must(layout.Clone()).ParseFS(templates, name)
		if err != nil {
			return nil, err
		}
		all[strings.TrimSuffix(path.Base(name), ".html")] = t
	}
	return all, nil
}

// view is what a template gets.
type view struct {
	Title   string
	Site    string // the host of the site
	Style   string // version of the style sheet
	SignUp  bool
	User    *store.User // who has logged in
	Token   string
	Here    string // path of the page, for the menu
	Refresh int    // seconds until the browser loads it again; 0: never
	Problem string // with what was sent
	Notice  string // of what was done
	Body    any
}

// show makes a page. What is the same on all pages is filled in.
func (s *Site) show(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	v.Token = s.token(w, r)
	s.render(w, r, status, name, v)
}

// fail makes a page that only says what is wrong.
func (s *Site) fail(w http.ResponseWriter, r *http.Request, status int, text string) {
	v := view{Title: http.StatusText(status), Body: text}
	if bound := s.boundTo(r); bound != "" {
		v.Token = s.tokenOf(bound)
	}
	s.render(w, r, status, "error", v)
}

func (s *Site) render(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	v.Site, v.Style, v.Here = s.config.URL.Hostname(), styleVersion, r.URL.Path
	v.SignUp = s.config.SignUp != Closed
	v.User = s.shownUser(r)
	var b bytes.Buffer
	if err := s.pages[name].ExecuteTemplate(&b, "layout.html", v); err != nil {
		s.config.Logger.Error("a page cannot be made", "page", name, "error", err)
		http.Error(w, ownFaultText, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // who has gone needs no page
}

// shownUser is who the page says is logged in, nil for nobody. Who was sent away at the
// door is not looked up.
func (s *Site) shownUser(r *http.Request) *store.User {
	if u := userOf(r.Context()); u.ID != "" {
		return &u
	}
	if !visitorOf(r.Context()).private {
		return nil
	}
	if u, ok, err := s.loggedIn(r); ok && err == nil {
		return &u
	}
	return nil
}

func (s *Site) tooMany(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "60")
	s.fail(w, r, http.StatusTooManyRequests, "Too many requests come from your network. Please wait a minute.")
}

func (s *Site) home(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, http.StatusOK, "home", view{Title: "IPv6 for everybody", Body: struct {
		Server    string
		SignUp    Mode
		PrefixLen int
	}{s.config.Server, s.config.SignUp, s.config.PrefixLen}})
}

func (s *Site) style(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery == styleVersion {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(styleSheet) // who has gone needs no style
}

// formatBytes is a size for people, in units of 1000.
func formatBytes(n uint64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d bytes", n)
	}
	v, unit := float64(n)/1000, 0
	for v >= 999.95 && unit < len(units)-1 {
		v /= 1000
		unit++
	}
	return fmt.Sprintf("%.1f %cB", v, units[unit])
}

// formatCount is a number with a blank behind the thousands.
func formatCount(n uint64) string {
	text := fmt.Sprint(n)
	var b strings.Builder
	for i, digit := range text {
		if i > 0 && (len(text)-i)%3 == 0 {
			b.WriteRune('\u202f')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

// ago is how long ago something was.
func ago(t time.Time) string {
	d := time.Since(t)
	switch {
	case t.IsZero():
		return "never"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", max(int(d.Seconds()), 0))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
