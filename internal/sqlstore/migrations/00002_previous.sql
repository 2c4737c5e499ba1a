-- +goose Up
-- The credential before the present one; all NULL when none is kept.
ALTER TABLE providers ADD COLUMN prev_version    BIGINT;
ALTER TABLE providers ADD COLUMN prev_key_id     BIGINT;
ALTER TABLE providers ADD COLUMN prev_ciphertext BYTEA;
ALTER TABLE providers ADD COLUMN prev_user       TEXT;
ALTER TABLE providers ADD COLUMN prev_set_at     BIGINT;
ALTER TABLE providers ADD COLUMN prev_set_by     TEXT;
ALTER TABLE providers ADD COLUMN prev_until      BIGINT;
CREATE INDEX providers_previous ON providers (prev_until) WHERE prev_until IS NOT NULL;
