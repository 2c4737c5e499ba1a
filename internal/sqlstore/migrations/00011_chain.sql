-- The chain of events (package audit). Events from before it, and those of programs that don't know it,
-- have no part in it.

-- +goose Up
ALTER TABLE events ADD COLUMN chain BYTEA;
ALTER TABLE instances ADD COLUMN chain_head BYTEA; -- after the last change
