package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// confs are the old files that all packages use.
const confs = "../../../testdata/conf"

// TestConfs reads every old file of testdata/conf and compares all that comes out
// with its golden file.
func TestConfs(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(confs, "*.conf"))
	if err != nil || len(files) < 6 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			got := render(t, file)
			golden := filepath.Join("testdata", "conf", strings.TrimSuffix(filepath.Base(file), ".conf")+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs; now it is\n%s", golden, got)
			}
		})
	}
}

// render reads a copy of a file that only its owner may read, in a directory that
// has nothing else. What it says about /usr/local is moved to there too, as who knows
// what is on this machine.
func render(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	path := writeConf(t, "")
	moved := strings.ReplaceAll(string(data), "/usr/local", filepath.Dir(path)+"/local")
	if err := os.WriteFile(path, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	c, conf, err := readOld(path)
	if err != nil {
		t.Fatal(err)
	}
	if conf.Legacy == nil {
		t.Fatal("taken for TOML")
	}
	var b strings.Builder
	fields(&b, "", reflect.ValueOf(c))
	fmt.Fprintf(&b, "the password has %d bytes\n", len(c.Password.Reveal()))
	fields(&b, "Legacy.", reflect.ValueOf(*conf.Legacy))
	for _, w := range conf.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return strings.ReplaceAll(b.String(), filepath.Dir(path), "DIR")
}

// fields writes the exported fields of a struct, one a line, those of structs
// within it under their names.
func fields(b *strings.Builder, prefix string, v reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		switch {
		case !field.IsExported():
		case field.Anonymous || field.Type == reflect.TypeFor[OldLog]():
			fields(b, prefix+field.Name+".", v.Field(i))
		default:
			fmt.Fprintf(b, "%s%s: %+v\n", prefix, field.Name, v.Field(i).Interface())
		}
	}
}
