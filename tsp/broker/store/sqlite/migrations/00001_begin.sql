-- +goose Up

-- Facts about the database itself.
CREATE TABLE facts (
	name  TEXT PRIMARY KEY,
	value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
	id          TEXT PRIMARY KEY, -- UUIDv7
	name        TEXT NOT NULL UNIQUE,
	salt        BLOB NOT NULL,    -- SCRAM-SHA-256, RFC 5802
	iterations  INTEGER NOT NULL,
	stored_key  BLOB NOT NULL,
	server_key  BLOB NOT NULL,
	digest      BLOB,             -- DIGEST-MD5, encrypted
	legacy      INTEGER NOT NULL,
	mechanisms  TEXT,             -- separated by blanks; NULL: all that fit
	prefix_len  INTEGER NOT NULL,
	max_tunnels INTEGER NOT NULL,
	disabled    INTEGER NOT NULL,
	created     INTEGER NOT NULL  -- all times in microseconds since 1970, 0 for none
) STRICT, WITHOUT ROWID;

-- What is taken out of the pool: addresses as 2001:db8::2, prefixes as 2001:db8:1::/48.
CREATE TABLE blocks (
	block TEXT PRIMARY KEY,
	first BLOB NOT NULL UNIQUE CHECK (length(first) = 16),
	last  BLOB NOT NULL CHECK (length(last) = 16 AND first <= last)
) STRICT, WITHOUT ROWID;

-- No two blocks overlap. As those that are there do not, it is enough to look at the
-- one that begins last among those that begin before the new one's end.
-- +goose StatementBegin
CREATE TRIGGER blocks_disjoint BEFORE INSERT ON blocks
WHEN (SELECT last FROM blocks WHERE first <= NEW.last ORDER BY first DESC LIMIT 1) >= NEW.first
BEGIN
	SELECT RAISE(ABORT, 'block overlaps another');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER blocks_constant BEFORE UPDATE ON blocks
BEGIN
	SELECT RAISE(ABORT, 'blocks never change');
END;
-- +goose StatementEnd

CREATE TABLE leases (
	id        TEXT PRIMARY KEY, -- UUIDv7
	user_id   TEXT REFERENCES users (id),
	client6   TEXT NOT NULL UNIQUE REFERENCES blocks (block),
	server6   TEXT NOT NULL,
	prefix    TEXT UNIQUE REFERENCES blocks (block),
	type      TEXT NOT NULL,
	outer4    TEXT NOT NULL,    -- address and port of the client
	node      TEXT NOT NULL,
	epoch     INTEGER NOT NULL,
	state     TEXT NOT NULL CHECK (state IN ('offered', 'up', 'down', 'quarantined')),
	created   INTEGER NOT NULL,
	changed   INTEGER NOT NULL, -- when it last got a block
	last_seen INTEGER NOT NULL,
	expires   INTEGER NOT NULL  -- 0: never
) STRICT, WITHOUT ROWID;

CREATE INDEX leases_user ON leases (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX leases_node ON leases (node) WHERE state = 'up';
CREATE INDEX leases_changed ON leases (changed);
CREATE INDEX leases_expires ON leases (expires) WHERE expires > 0;

-- Who had which address and prefix when.
CREATE TABLE history (
	id        TEXT PRIMARY KEY, -- UUIDv7
	at        INTEGER NOT NULL,
	event     TEXT NOT NULL,
	lease_id  TEXT NOT NULL,
	user_id   TEXT NOT NULL,
	user_name TEXT NOT NULL,
	client6   TEXT NOT NULL,
	prefix    TEXT NOT NULL,
	addr      BLOB NOT NULL,    -- client6
	first     BLOB,             -- of the prefix
	last      BLOB,
	type      TEXT NOT NULL,
	outer4    TEXT NOT NULL,
	node      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX history_at ON history (at, id);
CREATE INDEX history_addr ON history (addr);
CREATE INDEX history_first ON history (first) WHERE first IS NOT NULL;

-- +goose StatementBegin
CREATE TRIGGER history_constant BEFORE UPDATE ON history
BEGIN
	SELECT RAISE(ABORT, 'history never changes');
END;
-- +goose StatementEnd
