// Package sqlite is a store in one SQLite file (RFC 5572 leaves to the broker how it
// keeps its users and leases): what a broker uses that is alone.
//
// The file is in WAL mode: readers and the one writer do not wait for each other.
// Every commit is synced (synchronous=FULL), so that not even a power failure gives a
// user's prefix to another. As a sync takes milliseconds, transactions that come while
// one is being synced are committed together with the next. Other processes, such as
// `tspd user add`, may use the file at the same time.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/internal/sqlstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// busy is how many milliseconds to wait for another process that writes.
	busy = "10000"
	// readers is how many connections read at the same time.
	readers = 4
)

// Config says where the database is.
type Config struct {
	store.Config
	Path string // of the file; it is made, for the owner only, when it is not there
}

// Open opens the database, and makes it when there is none. The error wraps
// store.ErrNewer when a newer version of this program has changed it, store.ErrKey when
// it was encrypted with another key, and names both owners if two leases overlap.
func Open(ctx context.Context, cfg Config) (store.Store, error) {
	db, err := openDB(ctx, cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", cfg.Path, err)
	}
	s, err := sqlstore.New(ctx, cfg.Config, db)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", cfg.Path, err)
	}
	return s, nil
}

// database implements sqlstore.DB.
type database struct {
	read   *sql.DB
	reader *prepared
	write  *sql.DB // of one connection
	writer *writer
}

func openDB(ctx context.Context, path string) (*database, error) {
	if err := makeFile(path); err != nil {
		return nil, err
	}
	d := &database{}
	err := d.open(ctx, path)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// makeFile makes a file that only its owner may read: SQLite gives its other files the
// same mode and owner.
func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func (d *database) open(ctx context.Context, path string) (err error) {
	if d.write, err = connect(path, "_txlock", "immediate", "_pragma", "journal_mode(WAL)", "_pragma", "synchronous(FULL)"); err != nil {
		return err
	}
	d.write.SetMaxOpenConns(1)
	if err := migrate(ctx, d.write); err != nil {
		return err
	}
	if d.writer, err = newWriter(ctx, d.write); err != nil {
		return err
	}
	if d.read, err = connect(path, "_pragma", "query_only(1)"); err != nil {
		return err
	}
	d.read.SetMaxOpenConns(readers)
	d.read.SetMaxIdleConns(readers)
	d.reader = newPrepared(d.read)
	return nil
}

// connect prepares connections with some settings, given as pairs.
func connect(path string, settings ...string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	values := url.Values{"_pragma": {"busy_timeout(" + busy + ")", "foreign_keys(1)"}}
	for i := 0; i < len(settings); i += 2 {
		values.Add(settings[i], settings[i+1])
	}
	u := url.URL{Scheme: "file", Path: abs, RawQuery: values.Encode()}
	return sql.Open("sqlite", u.String())
}

// migrateTries: two processes may make the tables of a new file at the same time. The
// one that comes too late finds them there and looks again.
const migrateTries = 5

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	for range migrateTries {
		err = sqlstore.Migrate(ctx, goose.DialectSQLite3, db, files)
		if err == nil || errors.Is(err, store.ErrNewer) || ctx.Err() != nil {
			break
		}
	}
	return err
}

func (d *database) Reader() sqlstore.Queryer { return d.reader }

func (d *database) Write(ctx context.Context, f func(context.Context, sqlstore.Queryer) error) error {
	return d.writer.do(ctx, f)
}

// Lock: who writes is alone.
func (d *database) Lock(string) string { return "" }

func (d *database) AddBlock(ctx context.Context, q sqlstore.Queryer, b netip.Prefix) error {
	first, last := sqlstore.Span(b)
	_, err := q.ExecContext(ctx, `INSERT INTO blocks (block, first, last) VALUES ($1, $2, $3)`,
		sqlstore.BlockText(b), first, last)
	return err
}

func (d *database) Touch(ctx context.Context, q sqlstore.Queryer, seen []store.Seen) (lost []string, err error) {
	for _, s := range seen {
		r, err := q.ExecContext(ctx, `UPDATE leases SET last_seen = $1,
			expires = CASE WHEN user_id IS NULL AND $2 > 0 THEN $2 ELSE expires END
			WHERE id = $3 AND epoch = $4 AND state = 'up'`,
			sqlstore.Micros(s.At), sqlstore.Micros(s.Expires), s.ID, s.Epoch)
		if err != nil {
			return nil, err
		}
		n, err := r.RowsAffected()
		if err != nil {
			return nil, err
		}
		if n == 0 {
			lost = append(lost, s.ID)
		}
	}
	return lost, nil
}

// Close waits for what is being written. The last process to close the file tidies up.
func (d *database) Close() error {
	var errs []error
	if d.read != nil {
		errs = append(errs, d.reader.Close(), d.read.Close())
	}
	if d.writer != nil {
		errs = append(errs, d.writer.close())
	}
	if d.write != nil {
		errs = append(errs, d.write.Close())
	}
	return errors.Join(errs...)
}

// kind adds what an error means to us.
func kind(err error) error {
	var e *driver.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_TRIGGER:
		return fmt.Errorf("%w: %w", sqlstore.ErrOverlap, err)
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%w: %w", sqlstore.ErrDuplicate, err)
	}
	return err
}
