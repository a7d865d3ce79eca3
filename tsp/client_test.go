package tsp_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
)

// clientOf makes the client that a connection was recorded from: all it says is
// built anew from what was understood of the recording.
type clientOf struct {
	version     tsp.Version
	mechanism   string
	credentials sasl.Credentials
	request     *tsp.Request
}

var cnonce = regexp.MustCompile(`cnonce="([^"]*)".*digest-uri="tsp/([^"]*)"`)

func newClientOf(c connection) (k clientOf, err error) {
	k.credentials = sasl.Credentials{User: c.user, Password: c.password, Server: "192.0.2.1"}
	for _, text := range c.texts(true) {
		m, err := tsp.ParseMessage(text)
		if err != nil {
			return k, err
		}
		switch {
		case k.version == "":
			k.version, err = tsp.ParseVersion(m.Line)
		case strings.HasPrefix(string(m.Line), "AUTHENTICATE"):
			err = k.readMechanism(m.Line)
		case m.XML != nil && k.request == nil:
			k.request, err = tsp.ParseRequest(m.XML)
		default:
			k.readNonce(m.Line)
		}
		if err != nil {
			return k, err
		}
	}
	return k, nil
}

var scramNonce = regexp.MustCompile(`^n,,n=[^,]*,r=([^,]*)$`)

func (k *clientOf) readMechanism(line []byte) error {
	name, initial, err := tsp.ParseAuthenticate(line)
	if found := scramNonce.FindSubmatch(initial); found != nil {
		k.credentials.Nonce = func() string { return string(found[1]) }
	}
	k.mechanism = name
	return err
}

func (k *clientOf) readNonce(line []byte) {
	response, err := base64.StdEncoding.DecodeString(string(line))
	if found := cnonce.FindSubmatch(response); err == nil && found != nil {
		k.credentials.Nonce = func() string { return string(found[1]) }
		k.credentials.Server = string(found[2])
	}
}

// run walks a session as far as the recording goes, and says what came out.
func (k clientOf) run(ctx context.Context, t tsp.Transport) (string, error) {
	s := tsp.NewSession(t)
	tunnel, err := k.walk(ctx, s)
	var status *tsp.Error
	if errors.As(err, &status) {
		out := fmt.Sprintf("status %d", status.Code)
		for _, b := range status.Brokers {
			out += " " + b.String()
		}
		return out, nil
	}
	if err != nil {
		return "", err
	}
	return summary(tunnel), nil
}

func (k clientOf) walk(ctx context.Context, s *tsp.Session) (*tsp.Tunnel, error) {
	offer, err := s.Hello(ctx, k.version)
	if err != nil {
		return nil, err
	}
	name, err := sasl.Choose(k.mechanism, offer.Auths, k.credentials.User)
	if err != nil {
		return nil, err
	}
	mechanism, err := sasl.NewClient(name, k.credentials)
	if err != nil {
		return nil, err
	}
	if err := s.Authenticate(ctx, mechanism); err != nil {
		return nil, err
	}
	if !offer.Offers(k.request.Type) {
		return nil, fmt.Errorf("%s is not offered", k.request.Type)
	}
	tunnel, err := s.Create(ctx, k.request)
	if err != nil {
		return nil, err
	}
	return tunnel, s.Accept(ctx)
}
