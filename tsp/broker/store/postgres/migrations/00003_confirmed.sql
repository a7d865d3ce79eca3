-- +goose Up

-- That the user reads the e-mail was shown by a link that was sent there. Of users from before this was on record nobody
-- knows, and who has the e-mail of an account can get into it: so it was not.
ALTER TABLE users ADD COLUMN confirmed BOOLEAN NOT NULL DEFAULT FALSE;

DROP INDEX users_email;
CREATE UNIQUE INDEX users_email ON users (email) WHERE confirmed;

-- Where a sign-up comes from, whether its secret was sent to its e-mail and nowhere else, and whether its link was opened.
ALTER TABLE signups ADD COLUMN source TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE signups ADD COLUMN mailed BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE signups ADD COLUMN opened BOOLEAN NOT NULL DEFAULT FALSE;
-- Links that were sent are good for a day, those that wait for the operator and the approved ones for a month.
UPDATE signups SET mailed = TRUE WHERE approved AND email <> '' AND expires - created <= 86400000000;

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
