package bench

import (
	"fmt"
	"slices"
)

// note keeps a sentence for the end of the report, once.
func (p *pair) note(s string) {
	if !slices.Contains(p.notes, s) {
		p.notes = append(p.notes, s)
	}
}

func (p *pair) report() Report {
	r := Report{
		Title:   "Two network namespaces, one veth pair, both ends on this machine",
		Machine: thisMachine(),
		Settings: []string{
			fmt.Sprintf("%d rounds in turns; a TCP run counts %v, a UDP trial takes %v", p.cfg.Rounds, p.cfg.Duration, p.cfg.Duration/4),
			"Each figure: median (least-greatest), then its share of plain IPv4, then times the naive loop;",
			"shares are medians of the ratios within a round. CPU is that of both tunnel processes.",
		},
		Notes: p.notes,
	}
	for _, g := range p.groups {
		r.Tables = append(r.Tables, g.table(p.rows))
	}
	if len(p.groups) > 1 {
		r.Notes = append(r.Notes, p.groNotes()...)
	}
	return r
}

func (g *group) table(rows []rowSpec) Table {
	t := Table{Title: fmt.Sprintf("Link GRO %s", g.label())}
	for _, i := range g.shown {
		t.Columns = append(t.Columns, columnNames[i])
	}
	for i, spec := range rows {
		t.Rows = append(t.Rows, g.row(spec, g.rounds[i]))
	}
	return t
}

func (g *group) row(spec rowSpec, rounds [columnCount][]float64) Row {
	row := Row{Name: spec.name}
	for _, i := range g.shown {
		values := rounds[i]
		if len(values) == 0 {
			row.Cells = append(row.Cells, Cell{})
			continue
		}
		figure := newFigure(spec.unit, values)
		cell := Cell{Figure: &figure}
		if i != plainColumn {
			cell.OfPlain = scaled(100, values, rounds[plainColumn])
		}
		if i >= engineColumn {
			cell.OfNaive = scaled(1, values, rounds[naiveColumn])
		}
		row.Cells = append(row.Cells, cell)
	}
	return row
}

func scaled(factor float64, a, b []float64) *float64 {
	r, ok := ratio(a, b)
	if !ok {
		return nil
	}
	r *= factor
	return &r
}

// groNotes compares the engine with GRO on to what there was with GRO off.
func (p *pair) groNotes() (notes []string) {
	off, on := p.groups[0], p.groups[1]
	for _, column := range off.shown {
		if column < engineColumn {
			continue
		}
		for i, spec := range p.rows {
			engine := on.rounds[i][column]
			self, ok := ratio(engine, off.rounds[i][column])
			naive, ok2 := ratio(engine, off.rounds[i][naiveColumn])
			if spec.rate && ok && ok2 {
				notes = append(notes, fmt.Sprintf("%s: %s with GRO on is %.2f times itself and %.2f times the naive loop, both with GRO off",
					spec.name, columnNames[column], self, naive))
			}
		}
	}
	return notes
}
