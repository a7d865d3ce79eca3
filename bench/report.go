package bench

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"
)

// Report is what one run found out. As JSON it has every round's figure.
type Report struct {
	Title    string   `json:"title"`
	Machine  Machine  `json:"machine"`
	Settings []string `json:"settings"` // how it was measured, one sentence each
	Tables   []Table  `json:"tables"`
	Notes    []string `json:"notes,omitempty"` // what the figures alone do not say
}

// Machine is where the figures hold.
type Machine struct {
	Kernel string `json:"kernel"`
	Arch   string `json:"arch"`
	CPUs   int    `json:"cpus"`
	Go     string `json:"go"`
}

func thisMachine() Machine {
	return Machine{Kernel: kernel(), Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version()}
}

// Table has one cell per row and column.
type Table struct {
	Title   string   `json:"title"`
	Columns []string `json:"columns"`
	Rows    []Row    `json:"rows"`
}

// Row is one quantity for all columns.
type Row struct {
	Name  string `json:"name"`
	Cells []Cell `json:"cells"` // one per column of the table
}

// Cell is the figure of one row and column; without a figure there is none to
// measure, as the CPU time of a tunnel where there is no tunnel.
type Cell struct {
	Figure  *Figure  `json:"figure,omitempty"`
	OfPlain *float64 `json:"percent_of_plain,omitempty"` // of plain IPv4, median of the rounds' ratios
	OfNaive *float64 `json:"times_naive,omitempty"`      // the naive loop is 1, likewise
}

// WriteText writes the report for people to read.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nLinux %s %s, %d CPUs, %s\n", r.Title, r.Machine.Kernel, r.Machine.Arch, r.Machine.CPUs, r.Machine.Go)
	for _, s := range r.Settings {
		fmt.Fprintf(&b, "%s\n", s)
	}
	for _, t := range r.Tables {
		fmt.Fprintf(&b, "\n%s\n", t.Title)
		t.write(&b)
	}
	if len(r.Notes) > 0 {
		fmt.Fprintf(&b, "\n")
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t Table) write(b *strings.Builder) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\t\t%s\n", strings.Join(t.Columns, "\t"))
	for _, row := range t.Rows {
		fmt.Fprintf(w, "%s\t%s", row.Name, row.unit())
		for _, cell := range row.Cells {
			fmt.Fprintf(w, "\t%s", cell)
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // to a strings.Builder, which never fails
}

// unit is that of the row's figures, or "" when they differ and each has its own.
func (r Row) unit() string {
	unit := ""
	for _, c := range r.Cells {
		if c.Figure == nil {
			continue
		}
		if unit != "" && c.Figure.Unit != unit {
			return ""
		}
		unit = c.Figure.Unit
	}
	return unit
}

// String is the median, the range, and the ratios.
func (c Cell) String() string {
	if c.Figure == nil {
		return "-"
	}
	s := number(c.Figure.Median)
	if len(c.Figure.Rounds) > 1 {
		s += fmt.Sprintf(" (%s-%s)", number(c.Figure.Min), number(c.Figure.Max))
	}
	if c.OfPlain != nil {
		s += fmt.Sprintf(" %s%%", number(*c.OfPlain))
	}
	if c.OfNaive != nil {
		s += fmt.Sprintf(" %sx", number(*c.OfNaive))
	}
	return s
}

// number shows three digits that count.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	case v >= 0.01:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.5f", v)
}
