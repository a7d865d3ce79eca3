-- +goose Up

-- That the user reads the e-mail was shown by a link that was sent there. Of users from before this was on record it is
-- taken for granted, of several with one e-mail for the first.
ALTER TABLE users ADD COLUMN confirmed BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE users SET confirmed = TRUE WHERE email <> '' AND id IN (SELECT MIN(id) FROM users GROUP BY email);

DROP INDEX users_email;
CREATE UNIQUE INDEX users_email ON users (email) WHERE confirmed;

-- Where a sign-up comes from, whether its secret was sent to its e-mail and nowhere else, and whether its link was opened.
ALTER TABLE signups ADD COLUMN source TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE signups ADD COLUMN mailed BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE signups ADD COLUMN opened BOOLEAN NOT NULL DEFAULT FALSE;

CREATE INDEX signups_source ON signups (source);

-- Links for users who forgot their password.
CREATE TABLE resets (
	id      TEXT COLLATE "C" PRIMARY KEY, -- UUIDv7
	user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	token   BYTEA NOT NULL UNIQUE,        -- SHA-256 of what the link has
	expires BIGINT NOT NULL
);

CREATE INDEX resets_user ON resets (user_id);
CREATE INDEX resets_expires ON resets (expires);
