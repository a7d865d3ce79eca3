-- +goose Up

ALTER TABLE users ADD COLUMN email TEXT NOT NULL DEFAULT ''; -- in lower case
ALTER TABLE users ADD COLUMN is_operator INTEGER NOT NULL DEFAULT 0;

CREATE INDEX users_email ON users (email) WHERE email <> '';

-- Who wants to be a user, and has not shown to read the e-mail yet, or waits for the operator.
CREATE TABLE signups (
	id          TEXT PRIMARY KEY,     -- UUIDv7
	name        TEXT NOT NULL,
	email       TEXT NOT NULL,
	token       BLOB NOT NULL UNIQUE, -- SHA-256 of what the link has
	approved    INTEGER NOT NULL,
	prefix_len  INTEGER NOT NULL,
	max_tunnels INTEGER NOT NULL,
	created     INTEGER NOT NULL,
	expires     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX signups_expires ON signups (expires);
