// Package postgres is a store in a PostgreSQL database (RFC 5572 leaves to the broker
// how it keeps its users and leases): for several brokers that share users and pool.
//
// PostgreSQL 12 or later is needed and no extension. Every process knows what is free
// from its own view of the pool; when two choose the same, an exclusion constraint
// refuses the second, which then looks again.
package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/internal/sqlstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

// DefaultConns is how many connections to the server there are at most.
const DefaultConns = 8

// Config says where the database is.
type Config struct {
	store.Config
	// DSN is the database as libpq has it: postgres://user@host/name?sslmode=verify-full
	// or "host=/run/postgresql dbname=name". A password is better in a file: passfile.
	DSN   string
	Conns int // most connections at the same time, at least 2; 0 means DefaultConns
}

// Open opens the database, which must exist, and makes the tables when there are none.
// The error wraps store.ErrNewer when a newer version of this program has changed them,
// store.ErrKey when they were encrypted with another key, and names both owners if two
// leases overlap.
func Open(ctx context.Context, cfg Config) (store.Store, error) {
	pc, err := pgx.ParseConfig(cfg.DSN) // its error does not show the password
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	name := fmt.Sprintf("database %s at %s", pc.Database, pc.Host)
	db, err := openDB(ctx, pc, cfg.Conns)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s, err := sqlstore.New(ctx, cfg.Config, db)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// database implements sqlstore.DB.
type database struct {
	db *sql.DB
}

func openDB(ctx context.Context, pc *pgx.ConnConfig, conns int) (*database, error) {
	if conns == 0 {
		conns = DefaultConns
	}
	db := stdlib.OpenDB(*pc)
	conns = max(conns, 2) // one waits for its turn to make the tables, one makes them
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &database{db}, nil
}

// migrationLock is a number that nobody else is likely to lock.
const migrationLock = 0x73697869_6e340001

// migrate makes the tables. Of several processes one does it, the others wait.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return err
	}
	err = sqlstore.Migrate(ctx, goose.DialectPostgres, db, files)
	_, unlockErr := conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(migrationLock))
	return errors.Join(err, unlockErr)
}

func (d *database) Reader() sqlstore.Queryer { return queryer{d.db} }

// maxTries bounds how often a transaction is tried that gets in the way of others.
const maxTries = 10

func (d *database) Write(ctx context.Context, f func(context.Context, sqlstore.Queryer) error) error {
	var err error
	for range maxTries {
		if err = d.transact(ctx, f); !again(err) {
			return err
		}
	}
	return err
}

func (d *database) transact(ctx context.Context, f func(context.Context, sqlstore.Queryer) error) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing after a commit
	if err := f(ctx, queryer{tx}); err != nil {
		return err
	}
	return tx.Commit()
}

// Lock keeps others from the rows until the transaction ends.
func (d *database) Lock(alias string) string { return " FOR UPDATE OF " + alias }

func (d *database) AddBlock(ctx context.Context, q sqlstore.Queryer, b netip.Prefix) error {
	_, err := q.ExecContext(ctx, `INSERT INTO blocks (block) VALUES ($1)`, sqlstore.BlockText(b))
	return err
}

func (d *database) Touch(ctx context.Context, q sqlstore.Queryer, seen []store.Seen) ([]string, error) {
	ids, epochs := make([]string, len(seen)), make([]int64, len(seen))
	at, expires := make([]int64, len(seen)), make([]int64, len(seen))
	gone := map[string]bool{}
	for i, s := range seen {
		ids[i], epochs[i], at[i], expires[i] = s.ID, s.Epoch, sqlstore.Micros(s.At), sqlstore.Micros(s.Expires)
		gone[s.ID] = true
	}
	rows, err := q.QueryContext(ctx, `UPDATE leases l
		SET last_seen = v.at, expires = CASE WHEN l.user_id IS NULL AND v.expires > 0 THEN v.expires ELSE l.expires END
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS v (id, epoch, at, expires)
		WHERE l.id = v.id AND l.epoch = v.epoch AND l.state = 'up' RETURNING l.id`, ids, epochs, at, expires)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		delete(gone, id)
	}
	var lost []string
	for _, id := range ids {
		if gone[id] {
			lost = append(lost, id)
		}
	}
	return lost, rows.Err()
}

// Close closes the connections.
func (d *database) Close() error { return d.db.Close() }

// queryer says what errors mean to us.
type queryer struct {
	sqlstore.Queryer
}

func (q queryer) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := q.Queryer.QueryContext(ctx, query, args...)
	return rows, kind(err)
}

func (q queryer) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	r, err := q.Queryer.ExecContext(ctx, query, args...)
	return r, kind(err)
}

// Codes of PostgreSQL's documentation, Appendix A.
const (
	uniqueViolation    = "23505"
	exclusionViolation = "23P01"
	serializationFails = "40001"
	deadlock           = "40P01"
)

// code is that of an error, if it is the server's.
func code(err error) string {
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// kind adds what an error means to us.
func kind(err error) error {
	switch code(err) {
	case exclusionViolation:
		return fmt.Errorf("%w: %w", sqlstore.ErrOverlap, err)
	case uniqueViolation:
		return fmt.Errorf("%w: %w", sqlstore.ErrDuplicate, err)
	}
	return err
}

// again reports whether the same transaction may do better the next time.
func again(err error) bool {
	c := code(err)
	return c == serializationFails || c == deadlock
}
