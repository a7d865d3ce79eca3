package config

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const plainText = "open-sesame"

// TestSecretIsNeverShown prints a Secret alone, in a struct, behind a pointer, and
// where package fmt may not call its methods.
func TestSecretIsNeverShown(t *testing.T) {
	s := NewSecret(plainText)
	type unexported struct{ secret Secret }
	holders := map[string]any{
		"alone": s, "pointer": &s, "exported field": Connect{Password: s}, "unexported field": unexported{s},
		"list": []Secret{s}, "map": map[string]Secret{"a": s}, "value of an old file": Value{old: &oldValue{secret: s}},
	}
	for name, holder := range holders {
		t.Run(name, func(t *testing.T) {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
				if got := fmt.Sprintf(verb, holder); strings.Contains(got, plainText) || strings.Contains(got, fmt.Sprintf("%x", plainText)) {
					t.Errorf("%s: %s", verb, got)
				}
			}
			var log bytes.Buffer
			slog.New(slog.NewTextHandler(&log, nil)).Info("text", "holder", holder)
			slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "holder", holder)
			asJSON, _ := json.Marshal(holder)
			asXML, _ := xml.Marshal(holder)
			log.Write(asJSON)
			log.Write(asXML)
			if strings.Contains(log.String(), plainText) {
				t.Errorf("logged or encoded: %s", &log)
			}
		})
	}
}

func TestSecret(t *testing.T) {
	for _, tt := range []struct {
		name     string
		s        Secret
		wantText string
		wantZero bool
	}{
		{"none", Secret{}, "", true},
		{"of an empty text", NewSecret(""), "", true},
		{"of a text", NewSecret(plainText), plainText, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.s.Reveal(); got != tt.wantText {
				t.Errorf("Reveal: %q, want %q", got, tt.wantText)
			}
			if got := tt.s.IsZero(); got != tt.wantZero {
				t.Errorf("IsZero: %v, want %v", got, tt.wantZero)
			}
			for what, got := range map[string]string{
				"String": tt.s.String(), "GoString": tt.s.GoString(), "LogValue": tt.s.LogValue().String(),
				"%s": fmt.Sprintf("%s", tt.s), "an error": fmt.Errorf("x: %v", errors.New(fmt.Sprint(tt.s))).Error()[3:],
			} {
				if got != hidden {
					t.Errorf("%s: %q, want %q", what, got, hidden)
				}
			}
		})
	}
}
