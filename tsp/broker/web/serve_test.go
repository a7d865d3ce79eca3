package web

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// run serves the site on a port of this host until the end of the test.
func (h *house) run(config *tls.Config) (addr string) {
	h.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.site.Run(ctx, l, config) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("Run: %v", err)
		}
	})
	return l.Addr().String()
}

// pair makes a certificate for this host, of a name, and writes its files.
func pair(t testing.TB, dir, name string) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, secret.Public(), secret)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, pool
}

func TestRunTLS(t *testing.T) {
	h := newHouse(t, nil)
	cert, key, pool := pair(t, t.TempDir(), "one")
	config, err := Certificate(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	addr := h.run(config)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || resp.ProtoMajor != 2 || !strings.Contains(string(body), "IPv6") {
		t.Errorf("%s %s, %v", resp.Proto, resp.Status, err)
	}
}

// TestRenewedCertificate: files that change are read again, after a while and when they
// fit.
func TestRenewedCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key, _ := pair(t, dir, "one")
	c := &certificate{cert: cert, key: key}
	if err := c.read(); err != nil {
		t.Fatal(err)
	}
	name := func() string {
		pair, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.Subject.CommonName
	}
	later := func(path string) {
		c.looked = time.Time{}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	pair(t, dir, "two")
	if got := name(); got != "one" {
		t.Errorf("%s at once", got)
	}
	fresh, err := os.ReadFile(key)
	if err == nil {
		err = os.WriteFile(key, old, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	later(cert)
	if got := name(); got != "one" {
		t.Errorf("%s with the key of another", got)
	}
	if err := os.WriteFile(key, fresh, 0o600); err != nil {
		t.Fatal(err)
	}
	later(key)
	if got := name(); got != "two" {
		t.Errorf("%s, want the new one", got)
	}
	if _, err := Certificate(key, cert, nil); err == nil {
		t.Error("a key for a certificate")
	}
}

// TestSlow: who says nothing, or half a request, is left alone after a while, and
// others are served meanwhile.
func TestSlow(t *testing.T) {
	h := newHouse(t, nil)
	addr := h.run(nil)
	var slow []net.Conn
	for _, said := range []string{"", "GET / HT", "POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "200 OK") {
		t.Errorf("%q, %v, beside %d slow ones", line, err, len(slow))
	}
}

// TestMeasure: samples come every few seconds, until the end.
func TestMeasure(t *testing.T) {
	h := newHouse(t, nil)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { h.site.measure(ctx); close(ended) }()
		<-time.After(10*sampleTime + time.Second)
		cancel()
		<-ended
		if n := len(h.site.traffic.samples); n != 11 {
			t.Errorf("%d samples", n)
		}
	})
}
