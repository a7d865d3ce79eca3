package sqlite

import (
	"context"
	"path/filepath"
	"testing"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/storetest"
)

// backend is an empty file.
func backend(t testing.TB) storetest.Opener {
	path := filepath.Join(t.TempDir(), "tspd ?#%41.db") // a name that would mean something in a URI
	return func(ctx context.Context, cfg store.Config) (store.Store, error) {
		return Open(ctx, Config{Config: cfg, Path: path})
	}
}

func TestStore(t *testing.T) { storetest.Run(t, backend) }
