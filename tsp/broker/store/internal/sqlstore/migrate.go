package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"sixin4/tsp/broker/store"
)

// Migrate brings the tables of a database to the newest version in files. The error
// wraps store.ErrNewer when the database knows more.
func Migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, files fs.FS, options ...goose.ProviderOption) error {
	p, err := goose.NewProvider(dialect, db, files, options...)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	current, target, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("version of the database: %w", err)
	case current > target:
		return fmt.Errorf("%w: it has version %d, this program knows up to %d", store.ErrNewer, current, target)
	case current == target:
		return nil
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the database from version %d to %d: %w", current, target, err)
	}
	return nil
}
