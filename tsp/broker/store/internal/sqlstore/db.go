// Package sqlstore is the part of a store that is the same on all SQL databases: what
// is read and written, and in which transactions. The tables are in the migrations of
// packages sqlite and postgres; they, not this package, keep the promise that no two
// leases overlap.
//
// Times are stored as microseconds since 1970, zero for none, addresses and prefixes as
// text as package netip writes it: both the same on every database.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"

	"sixin4/tsp/broker/store"
)

// The kinds of errors that a database has for us.
var (
	// ErrOverlap: an address or prefix is in another one's.
	ErrOverlap = errors.New("overlaps another lease")
	// ErrDuplicate: a value must be there only once.
	ErrDuplicate = errors.New("is there already")
)

// Queryer runs statements, whose parameters are $1, $2 and so on.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// DB is a database. Errors of its Queryers wrap ErrOverlap and ErrDuplicate.
type DB interface {
	// Reader runs statements that only read, each by itself.
	Reader() Queryer
	// Write runs f in a transaction, perhaps several times, and commits it to the disk
	// if the last one had no error. When the context ends, the transaction may be
	// committed or not; an error means that most likely it is not.
	Write(ctx context.Context, f func(ctx context.Context, q Queryer) error) error
	// Lock is what makes SELECT keep others from writing to the rows of a table, given
	// by its alias, until the transaction ends; empty when there is one writer only.
	Lock(alias string) string
	// AddBlock makes a block one that is taken.
	AddBlock(ctx context.Context, q Queryer, block netip.Prefix) error
	// Touch notes what is seen, in one transaction, and returns the IDs that are not up
	// with that epoch.
	Touch(ctx context.Context, q Queryer, seen []store.Seen) (lost []string, err error)
	Close() error
}

// each calls f for each row of a query.
func each(ctx context.Context, q Queryer, f func(*sql.Rows) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// one calls f for the only row; ErrNotFound when there is none.
func one(ctx context.Context, q Queryer, f func(*sql.Rows) error, query string, args ...any) error {
	found := false
	err := each(ctx, q, func(r *sql.Rows) error {
		found = true
		return f(r)
	}, query, args...)
	if err == nil && !found {
		return store.ErrNotFound
	}
	return err
}
