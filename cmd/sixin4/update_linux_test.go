package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/sqlite"
)

// certificate makes the files of a certificate for the broker's address.
func (b *realBroker) certificate() (cert, key string, pool *x509.CertPool) {
	b.t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(b.t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(b.far)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, secret.Public(), secret)
	must(b.t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(secret)
	must(b.t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	cert, key = b.dir+"/cert.pem", b.dir+"/key.pem"
	must(b.t, errors.Join(os.WriteFile(cert, certPEM, 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)))
	return cert, key, pool
}

// reserve gives a user an address, as the button at "My tunnel" does.
func (b *realBroker) reserve(name string) store.Lease {
	b.t.Helper()
	s, err := sqlite.Open(b.t.Context(), sqlite.Config{
		Path: b.dir + "/tspd.db", Config: store.Config{Pool: netip.MustParsePrefix("2001:db8:1000::/36")},
	})
	must(b.t, err)
	u, err := s.UserByName(b.t.Context(), name)
	must(b.t, err)
	l, err := s.Reserve(b.t.Context(), store.Want{UserID: u.ID, PrefixLen: u.PrefixLen})
	must(b.t, errors.Join(err, s.Close()))
	return l
}

// update calls /nic/update from the host, as a router does.
func (b *realBroker) update(pool *x509.CertPool, name, password string) string {
	b.t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(_ context.Context, network, addr string) (c net.Conn, err error) {
			err = b.topo.A.Do(func() error {
				c, err = net.DialTimeout(network, addr, patience)
				return err
			})
			return c, err
		},
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, "https://"+b.far+"/nic/update?hostname="+name, nil)
	must(b.t, err)
	r.SetBasicAuth(name, password)
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Do(r)
	must(b.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(b.t, err)
	return string(text)
}

// TestUpdate: a host with a tunnel of 6in4 that speaks no TSP tells the broker where it is
// by /nic/update, and packets flow. With another address it calls again, and a TCP
// connection through the tunnel goes on.
func TestUpdate(t *testing.T) {
	t.Parallel()
	b := newRealBroker(t)
	cert, key, pool := b.certificate()
	b.begin("web", b.far+":443", "web-cert", cert, "web-key", key)
	b.addUser("alice", "secret-of-alice", 48)
	l := b.reserve("alice")
	p := start(t, b.topo.A, "main", "up", "--remote", b.far, "--address", l.Client6.String()+"/128", "--route", "::/0",
		"--name", "six0", "--socket", b.dir+"/six0.sock")
	p.ready()
	echoes := b.echoes()
	must(t, b.topo.A.Do(func() error {
		c, err := net.DialTimeout("tcp6", echoes.Addr().String(), time.Second)
		if err == nil {
			c.Close()
			t.Error("packets flow before the broker was told where the host is")
		}
		return nil
	}))
	if got := b.update(pool, "alice", "wrong"); got != "badauth\n" {
		t.Errorf("with a wrong password: %q", got)
	}
	if got := b.update(pool, "alice", "secret-of-alice"); got != "good "+b.host+"\n" {
		t.Fatalf("the first call: %q", got)
	}
	talk := b.wordOver(b.topo.A, echoes)
	talk()
	b.fromPrefix(l.Prefix.Addr().Next().String(), true)
	moved := b.moveHost()
	p.await(p.stderr, "local="+moved)
	if got := b.update(pool, "alice", "secret-of-alice"); got != "good "+moved+"\n" {
		t.Fatalf("after the move: %q", got)
	}
	talk()
	if got := b.update(pool, "alice", "secret-of-alice"); got != "nochg "+moved+"\n" {
		t.Errorf("once more: %q", got)
	}
	p.stop()
	b.process.stop()
}
