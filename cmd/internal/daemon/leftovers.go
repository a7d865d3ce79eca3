package daemon

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"sixin4/cmd/internal/state"
	"sixin4/tun/ifcfg"
)

// stateFile is where a tunnel has on record what outlives its process: beside the control
// socket, as neither outlives the host.
func stateFile(socket, name string) (string, error) {
	dir, err := filepath.Abs(filepath.Dir(socket))
	return filepath.Join(dir, name+".state"), err
}

// hasStateFile reports whether there is one. A tunnel that records nothing need not care
// whether the directory could be trusted with it.
func hasStateFile(socket, name string) bool {
	path, err := stateFile(socket, name)
	if err == nil {
		_, err = os.Lstat(path)
	}
	return err == nil
}

// begin undoes what a killed run left that had the name.
func (t *static) begin(ctx context.Context) error {
	t.name, t.socket = t.plan.Name, t.plan.Socket
	t.undoKilled(ctx)
	return nil
}

// undoKilled undoes what a run of another kind with this name was killed before undoing. A
// tunnel that has nothing to record can do without: what cannot be undone is logged.
func (t *tunnel) undoKilled(ctx context.Context) {
	if !hasStateFile(t.socket, t.name) {
		return
	}
	err := t.undoFile(ctx)
	if err != nil {
		t.env.Logger.Warn("what an earlier run left is not undone", "name", t.name, "error", err)
	}
}

func (t *tunnel) undoFile(ctx context.Context) error {
	path, err := stateFile(t.socket, t.name)
	if err != nil {
		return err
	}
	// To open the file would forget what is about another network namespace.
	if left, err := state.Leftover(path); err != nil || len(left) == 0 {
		return err
	}
	file, err := state.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() // says nothing that Remove has not said
	return t.leftovers(ctx, file, file.Inherited())
}

// leftovers undoes each of left once: what fails now has failed before, or would fail for
// ever.
func (t *tunnel) leftovers(ctx context.Context, file *state.File, left []state.Entry) error {
	if len(left) > 0 {
		t.env.Logger.Warn("an earlier run was killed; undoing what it left", "name", t.name, "directory", filepath.Dir(t.socket))
	}
	for _, e := range slices.Backward(left) {
		err := t.undoRecord(ctx, e.Record)
		if ctx.Err() != nil {
			return nil // it stays on record
		}
		if err != nil {
			t.env.Logger.Warn("not undone", "error", err)
		}
		if err := file.Remove(e.Token); err != nil {
			return err
		}
	}
	return nil
}

func (t *tunnel) undoRecord(ctx context.Context, r state.Record) error {
	switch {
	case r.Script != nil:
		ctx, cancel := context.WithTimeout(ctx, teardownTime)
		defer cancel()
		return t.heard(r.Script.Hook()).Run(ctx, r.Script.Variables)
	case r.Route != nil:
		return ifcfg.DeleteUnreachable(r.Route.Prefix)
	case r.Sysctl != nil: // a broker's that had this name
		return router{root: sysctls}.restore(*r.Sysctl)
	}
	return nil
}
