package bench

import (
	"encoding/json"
	"strings"
	"testing"
)

func testPair() *pair {
	p := &pair{cfg: PairConfig{Rounds: 2}, notes: []string{"one note"}}
	p.rows = []rowSpec{{"TCP 1 stream", "Gbit/s", true}, {"tunnel CPU", "s/GB", false}}
	shown := PairConfig{Columns: usualColumns}.columns()
	off, on := newGroup(false, len(p.rows), shown), newGroup(true, len(p.rows), shown)
	off.rounds[0] = [columnCount][]float64{{10, 20}, {1, 2}, {3, 8}, nil, {4, 9}}
	off.rounds[1] = [columnCount][]float64{nil, {4}, {2}}
	on.rounds[0] = [columnCount][]float64{{10, 10}, {0, 0}, {6, 8}}
	p.groups = []*group{off, on}
	return p
}

func TestReportText(t *testing.T) {
	r := testPair().report()
	r.Machine = Machine{Kernel: "6.18.0", Arch: "amd64", CPUs: 2, Go: "go1.26"}
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const want = `Two network namespaces, one veth pair, both ends on this machine
Linux 6.18.0 amd64, 2 CPUs, go1.26
2 rounds in turns; a TCP run counts 0s, a UDP trial takes 0s
Each figure: median (least-greatest), then its share of plain IPv4, then times the naive loop;
shares are medians of the ratios within a round. CPU is that of both tunnel processes.

Link GRO off
                      plain IPv4        naive loop              --wire auto                   --wire packet  --wire raw
TCP 1 stream  Gbit/s  15.0 (10.0-20.0)  1.50 (1.00-2.00) 10.0%  5.50 (3.00-8.00) 35.0% 3.50x  -              6.50 (4.00-9.00) 42.5% 4.25x
tunnel CPU    s/GB    -                 4.00                    2.00 0.500x                   -              -

Link GRO on
                      plain IPv4        naive loop  --wire auto             --wire packet  --wire raw
TCP 1 stream  Gbit/s  10.0 (10.0-10.0)  0 (0-0) 0%  7.00 (6.00-8.00) 70.0%  -              -
tunnel CPU            -                 -           -                       -              -

note: one note
note: TCP 1 stream: --wire auto with GRO on is 1.50 times itself and 5.00 times the naive loop, both with GRO off
`
	if got := b.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestReportJSON(t *testing.T) {
	out, err := json.Marshal(testPair().report())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"rounds":[3,8]`, `"median":5.5`, `"unit":"Gbit/s"`, `"percent_of_plain":35`, `"times_naive":3.5`,
		`"columns":["plain IPv4","naive loop","--wire auto","--wire packet","--wire raw"]`, `"notes":["one note",`,
		`{"name":"tunnel CPU","cells":[{},{"figure":`, // plain IPv4 has none
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
}

func TestNumber(t *testing.T) {
	for _, test := range []struct {
		v    float64
		want string
	}{
		{0, "0"}, {0.000123, "0.00012"}, {0.0123, "0.012"}, {0.5, "0.500"}, {1.234, "1.23"}, {12.34, "12.3"}, {1234.5, "1234"},
	} {
		if got := number(test.v); got != test.want {
			t.Errorf("number(%v) = %q, want %q", test.v, got, test.want)
		}
	}
}

func TestNoteOnce(t *testing.T) {
	p := new(pair)
	p.note("a")
	p.note("b")
	p.note("a")
	if got := strings.Join(p.notes, " "); got != "a b" {
		t.Errorf("got %q", got)
	}
}
