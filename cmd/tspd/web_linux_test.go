package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"html"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/exit"
	"sixin4/tun/nstest"
)

// certificate makes the files of a certificate for an address.
func (d *desk) certificate(addr netip.Addr) (cert, key string, pool *x509.CertPool) {
	d.t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		d.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{addr.AsSlice()},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, secret.Public(), secret)
	if err != nil {
		d.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		d.t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return d.write("cert.pem", string(certPEM)),
		d.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))), pool
}

// browserIn is a browser in a namespace.
func browserIn(t *testing.T, ns *nstest.NS, pool *x509.CertPool) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(_ context.Context, network, addr string) (c net.Conn, err error) {
			err = ns.Do(func() error {
				c, err = net.Dial(network, addr)
				return err
			})
			return c, err
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Jar: jar, Timeout: 20 * time.Second}
}

// page reads an answer, which must have a status.
func page(t *testing.T, resp *http.Response, err error, status int) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s %s: %s, %v: %s", resp.Request.Method, resp.Request.URL, resp.Status, err, body)
	}
	return html.UnescapeString(string(body))
}

// find is what a pattern has in its parentheses.
func find(t *testing.T, pattern, text string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in %s", pattern, text)
	}
	return m[1]
}

// TestWeb: somebody signs up at the web pages, is approved by command, gets the
// password, and has a tunnel by /nic/update.
func TestWeb(t *testing.T) {
	d, topo := newDesk(t), namespace(t)
	cert, key, pool := d.certificate(topo.AddrB)
	b := serveIn(t, topo.B, "--prefix", "2001:db8:1000::/36", "--state", d.path("tspd.db"), "--socket", d.path("s"),
		"--iterations", "4096", "--web", topo.AddrB.String()+":443", "--web-cert", cert, "--web-key", key, "--sign-up-prefix-length", "56")
	if b.ready == "" {
		b.code()
		t.Fatal(b.stderr.String())
	}
	site, c := "https://"+topo.AddrB.String(), browserIn(t, topo.A, pool)
	const token = `name="token" value="([0-9a-f]+)"`
	resp, err := c.Get(site + "/sign-up")
	form := url.Values{"token": {find(t, token, page(t, resp, err, 200))}, "name": {"alice"}}
	resp, err = c.PostForm(site+"/sign-up", form)
	link := find(t, `<pre tabindex="0">(https://[^<]+)</pre>`, page(t, resp, err, 200))
	resp, err = c.Get(link)
	if text := page(t, resp, err, 200); !strings.Contains(text, "waits for the operator") {
		t.Errorf("before the approval: %s", text)
	}
	if code, stdout, stderr := tspd(d.line("user approve alice")...); code != exit.OK || !strings.HasPrefix(stdout, "approved alice: prefix /56, 1 tunnel; ") {
		t.Fatalf("%d, %s%s", code, stdout, stderr)
	}
	resp, err = c.Get(link)
	text := page(t, resp, err, 200)
	resp, err = c.PostForm(site+"/welcome", url.Values{"token": {find(t, token, text)}, "secret": {find(t, `secret=(\w+)`, link)}})
	secret := find(t, `id="the-password">([^<]+)<`, page(t, resp, err, 200))

	update := func(password, want string, status int) {
		t.Helper()
		r, err := http.NewRequest("GET", site+"/nic/update?hostname=alice", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("alice", password)
		resp, err := c.Do(r)
		if got := page(t, resp, err, status); got != want+"\n" {
			t.Errorf("update: %q, want %q", got, want)
		}
	}
	update("wrong", "badauth", 401)
	update(secret, "good "+topo.AddrA.String(), 200)
	update(secret, "nochg "+topo.AddrA.String(), 200)
	list := d.run("tunnel list")
	if !strings.Contains(list, "2001:db8:1000::2  2001:db8:1000:100::/56  alice  up     "+topo.AddrA.String()) {
		t.Errorf("tunnels:\n%s", list)
	}
	resp, err = c.Get(site + "/login")
	resp, err = c.PostForm(site+"/login", url.Values{"token": {find(t, token, page(t, resp, err, 200))}, "name": {"alice"}, "password": {secret}})
	if text := page(t, resp, err, 200); !strings.Contains(text, "2001:db8:1000:100::/56") || !strings.Contains(text, "waiting for an answer") {
		t.Errorf("my tunnel: %s", text)
	}
	b.stop()
}
