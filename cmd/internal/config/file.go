package config

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"sixin4/cmd/internal/exit"
)

// Reference is a configuration file of `sixin4 up` with every key, its default and
// what it means.
//
//go:embed reference.toml
var Reference string

// ReferenceConnect is the same of `sixin4 connect`.
//
//go:embed reference-connect.toml
var ReferenceConnect string

// ReferenceBroker is the same of `tspd serve`.
//
//go:embed reference-tspd.toml
var ReferenceBroker string

// maxFile bounds what is read of a configuration file, in bytes.
const maxFile = 1 << 20

// ReadFile reads a TOML file whose keys are the flags of `sixin4 up`. Its errors
// carry the exit status 78 and name file and line.
func ReadFile(path string) (Raw, error) { return readTOML(path, upOrder) }

// ReadBroker reads a TOML file whose keys are the flags of `tspd serve`. Its errors
// are as those of ReadFile.
func ReadBroker(path string) (Raw, error) { return readTOML(path, brokerOrder) }

func readTOML(path string, keys []Key) (Raw, error) {
	data, err := readAll(path)
	if err != nil {
		return nil, exit.With(exit.Config, err)
	}
	raw, err := parseFile(path, data, keys)
	return raw, exit.With(exit.Config, err)
}

func readAll(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return data, nil
}

// parseFile reads data twice: the decoder finds what is no TOML or stands there
// twice, the syntax tree knows the line of each value, which Check needs. Editors of
// another system begin a file with a byte order mark.
func parseFile(path string, data []byte, keys []Key) (Raw, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var any map[string]any
	if err := toml.Unmarshal(data, &any); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, _ := at.Position()
			return nil, notTOML(path, line, lineOf(data, line), at)
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f := file{path: path, keys: keys, raw: make(Raw)}
	f.parser.Reset(data)
	for f.parser.NextExpression() {
		if err := f.expression(f.parser.Expression()); err != nil {
			return nil, err
		}
	}
	return f.raw, f.parser.Error()
}

// file is a configuration file while it is being read.
type file struct {
	path   string
	keys   []Key
	parser unstable.Parser
	raw    Raw
}

// expression takes one `key = value`; there are no tables among our keys.
func (f *file) expression(e *unstable.Node) error {
	path, line := f.key(e)
	key := Key(path)
	if e.Kind != unstable.KeyValue {
		return fmt.Errorf("%s:%d: [%s]: there are no tables in this file", f.path, line, brief(path, asIs))
	}
	if !slices.Contains(f.keys, key) {
		return fmt.Errorf("%s:%d: %w", f.path, line, f.unknown(path))
	}
	value := e.Value()
	if !isScalar(value) && value.Kind != unstable.Array {
		return fmt.Errorf("%s:%d: %s: a text, a number, true or false belongs here", f.path, line, key)
	}
	if value.Kind != unstable.Array {
		f.add(key, value, line)
		return nil
	}
	return f.array(key, value, line)
}

// array takes one `key = [value, ...]`.
func (f *file) array(key Key, value *unstable.Node, line int) error {
	if !IsList(key) && !withCommas[key] {
		return fmt.Errorf("%s:%d: %s: a list; it has one value", f.path, line, key)
	}
	var texts []string
	for items := value.Children(); items.Next(); {
		if !isScalar(items.Node()) {
			return fmt.Errorf("%s:%d: %s: a list of texts belongs here", f.path, line, key)
		}
		if !withCommas[key] {
			f.add(key, items.Node(), line)
		}
		texts = append(texts, string(items.Node().Data))
	}
	if withCommas[key] {
		f.raw[key] = []Value{{Text: strings.Join(texts, ","), Origin: Origin{File: f.path, Line: line}}}
	}
	return nil
}

// key returns the dotted key of an expression and its line.
func (f *file) key(e *unstable.Node) (path string, line int) {
	var parts []string
	for it := e.Key(); it.Next(); {
		if line == 0 {
			line = f.line(it.Node(), 0)
		}
		parts = append(parts, string(it.Node().Data))
	}
	return strings.Join(parts, "."), line
}

// line returns the line of n, or otherwise when the parser did not keep it.
func (f *file) line(n *unstable.Node, otherwise int) int {
	if n.Raw.Length == 0 {
		return otherwise
	}
	return f.parser.Shape(n.Raw).Start.Line
}

func (f *file) add(key Key, n *unstable.Node, line int) {
	f.raw[key] = append(f.raw[key], Value{
		Text:   string(n.Data),
		Origin: Origin{File: f.path, Line: f.line(n, line)},
	})
}

func isScalar(n *unstable.Node) bool {
	return n.Kind == unstable.String || n.Kind == unstable.Integer || n.Kind == unstable.Bool
}
