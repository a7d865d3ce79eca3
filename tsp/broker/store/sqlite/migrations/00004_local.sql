-- +goose Up

-- The broker's end of a tunnel in UDP, address and port. Of sessions from before this was on record it is not known: there
-- was one end for all, the first address that the broker listens at.
ALTER TABLE leases ADD COLUMN local4 TEXT NOT NULL DEFAULT '';
-- Whether the client takes merged TCP.
ALTER TABLE leases ADD COLUMN merged INTEGER NOT NULL DEFAULT 0;
