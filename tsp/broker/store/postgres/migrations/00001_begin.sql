-- +goose Up

-- Facts about the database itself.
CREATE TABLE facts (
	name  TEXT COLLATE "C" PRIMARY KEY,
	value BYTEA NOT NULL
);

CREATE TABLE users (
	id          TEXT COLLATE "C" PRIMARY KEY, -- UUIDv7
	name        TEXT COLLATE "C" NOT NULL UNIQUE,
	salt        BYTEA NOT NULL,    -- SCRAM-SHA-256, RFC 5802
	iterations  INTEGER NOT NULL,
	stored_key  BYTEA NOT NULL,
	server_key  BYTEA NOT NULL,
	digest      BYTEA,             -- DIGEST-MD5, encrypted
	legacy      BOOLEAN NOT NULL,
	mechanisms  TEXT,              -- separated by blanks; NULL: all that fit
	prefix_len  INTEGER NOT NULL,
	max_tunnels INTEGER NOT NULL,
	disabled    BOOLEAN NOT NULL,
	created     BIGINT NOT NULL    -- all times in microseconds since 1970, 0 for none
);

-- What is taken out of the pool: addresses as 2001:db8::2, prefixes as 2001:db8:1::/48.
-- No two of them overlap.
CREATE TABLE blocks (
	block TEXT COLLATE "C" PRIMARY KEY,
	CONSTRAINT blocks_disjoint EXCLUDE USING gist ((block::inet) inet_ops WITH &&)
);

CREATE TABLE leases (
	id        TEXT COLLATE "C" PRIMARY KEY, -- UUIDv7
	user_id   TEXT COLLATE "C" REFERENCES users (id),
	client6   TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES blocks (block),
	server6   TEXT NOT NULL,
	prefix    TEXT COLLATE "C" UNIQUE REFERENCES blocks (block),
	type      TEXT NOT NULL,
	outer4    TEXT NOT NULL,    -- address and port of the client
	node      TEXT NOT NULL,
	epoch     BIGINT NOT NULL,
	state     TEXT NOT NULL CHECK (state IN ('offered', 'up', 'down', 'quarantined')),
	created   BIGINT NOT NULL,
	changed   BIGINT NOT NULL,  -- when it last got a block
	last_seen BIGINT NOT NULL,
	expires   BIGINT NOT NULL   -- 0: never
);

CREATE INDEX leases_user ON leases (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX leases_node ON leases (node) WHERE state = 'up';
CREATE INDEX leases_changed ON leases (changed);
CREATE INDEX leases_expires ON leases (expires) WHERE expires > 0;

-- Who had which address and prefix when.
CREATE TABLE history (
	id        TEXT COLLATE "C" PRIMARY KEY, -- UUIDv7
	at        BIGINT NOT NULL,
	event     TEXT NOT NULL,
	lease_id  TEXT NOT NULL,
	user_id   TEXT NOT NULL,
	user_name TEXT NOT NULL,
	client6   TEXT NOT NULL,
	prefix    TEXT NOT NULL,
	addr      BYTEA NOT NULL,   -- client6
	first     BYTEA,            -- of the prefix
	last      BYTEA,
	type      TEXT NOT NULL,
	outer4    TEXT NOT NULL,
	node      TEXT NOT NULL
);

CREATE INDEX history_at ON history (at, id);
CREATE INDEX history_addr ON history (addr);
CREATE INDEX history_first ON history (first) WHERE first IS NOT NULL;

-- +goose StatementBegin
CREATE FUNCTION never_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION '% never changes', TG_TABLE_NAME;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER blocks_constant BEFORE UPDATE ON blocks EXECUTE FUNCTION never_changes();
CREATE TRIGGER history_constant BEFORE UPDATE ON history EXECUTE FUNCTION never_changes();
