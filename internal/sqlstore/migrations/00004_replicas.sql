-- What several processes on one database need.

-- +goose Up
-- A ciphertext for each key that ever sealed anything here, so that no process begins with other keys.
CREATE TABLE key_checks (
    key_id     BIGINT NOT NULL PRIMARY KEY,
    ciphertext BYTEA  NOT NULL,
    created    BIGINT NOT NULL
);

-- Every provider was created: the condition keeps whoever looks for one by its id from this index, which
-- has the columns for it too, in the wrong order.
DROP INDEX providers_listed;
CREATE INDEX providers_listed ON providers (instance, created, id, kind) WHERE created > 0;
