-- +goose Up

ALTER TABLE users ADD COLUMN email TEXT COLLATE "C" NOT NULL DEFAULT ''; -- in lower case
ALTER TABLE users ADD COLUMN is_operator BOOLEAN NOT NULL DEFAULT FALSE;

CREATE INDEX users_email ON users (email) WHERE email <> '';

-- Who wants to be a user, and has not shown to read the e-mail yet, or waits for the operator.
CREATE TABLE signups (
	id          TEXT COLLATE "C" PRIMARY KEY, -- UUIDv7
	name        TEXT COLLATE "C" NOT NULL,
	email       TEXT NOT NULL,
	token       BYTEA NOT NULL UNIQUE,        -- SHA-256 of what the link has
	approved    BOOLEAN NOT NULL,
	prefix_len  INTEGER NOT NULL,
	max_tunnels INTEGER NOT NULL,
	created     BIGINT NOT NULL,
	expires     BIGINT NOT NULL
);

CREATE INDEX signups_expires ON signups (expires);
