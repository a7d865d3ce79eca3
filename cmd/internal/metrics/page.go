// Package metrics shows the state of a process to Prometheus, in its text format
// (version 0.0.4), and to supervisors, which ask whether it lives and is ready:
//
//	GET /metrics   what is counted and measured
//	GET /healthz   200 as long as the process answers
//	GET /readyz    200 when it does its work, else 503; with the reason as JSON
//
// It needs no library of others: what there is to count is counted elsewhere, and is
// turned into lines here when somebody asks.
package metrics

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// Page is an answer that is being written: families of samples, in the order of their
// first sample.
type Page struct {
	families []*family
	byName   map[string]*family
}

type family struct {
	name, help, kind string
	samples          []byte
}

// Gauge adds a sample of what goes up and down. labels are names and values by turns.
// All samples of one name have the same kind, and the help of the first.
func (p *Page) Gauge(name, help string, value float64, labels ...string) {
	p.add(name, help, "gauge", value, labels)
}

// Counter adds a sample of what only grows, from 0 when the process begins. Its name
// ends in _total.
func (p *Page) Counter(name, help string, value uint64, labels ...string) {
	p.add(name, help, "counter", float64(value), labels)
}

// time is a gauge of a moment, in seconds since 1970; a moment that never was is
// no sample.
func (p *Page) time(name, help string, t time.Time, labels ...string) {
	if !t.IsZero() {
		p.Gauge(name, help, float64(t.UnixMilli())/1000, labels...)
	}
}

func (p *Page) add(name, help, kind string, value float64, labels []string) {
	if p.byName == nil {
		p.byName = make(map[string]*family)
	}
	f := p.byName[name]
	if f == nil {
		f = &family{name: name, help: help, kind: kind}
		p.byName[name], p.families = f, append(p.families, f)
	}
	f.samples = append(f.samples, name...)
	for i := 0; i+1 < len(labels); i += 2 {
		mark := ","
		if i == 0 {
			mark = "{"
		}
		f.samples = append(f.samples, mark+labels[i]+`="`+escapeValue(labels[i+1])+`"`...)
	}
	if len(labels) > 1 {
		f.samples = append(f.samples, '}')
	}
	f.samples = append(f.samples, ' ')
	f.samples = strconv.AppendFloat(f.samples, value, 'f', -1, 64)
	f.samples = append(f.samples, '\n')
}

// escapeValue is a label's value as it stands between quotes.
func escapeValue(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "\ufffd"))
}

// Bytes is the page as Prometheus reads it.
func (p *Page) Bytes() []byte {
	var b bytes.Buffer
	for _, f := range p.families {
		b.WriteString("# HELP " + f.name + " " + strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(f.help) + "\n")
		b.WriteString("# TYPE " + f.name + " " + f.kind + "\n")
		b.Write(f.samples)
	}
	return b.Bytes()
}
