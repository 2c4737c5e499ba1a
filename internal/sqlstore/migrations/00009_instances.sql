-- Tenants. What they are called, may do and are sealed with; programs of the version before know of default only.

-- +goose Up
ALTER TABLE instances ADD COLUMN name             TEXT   NOT NULL DEFAULT '';
ALTER TABLE instances ADD COLUMN sender_domains   TEXT   NOT NULL DEFAULT ''; -- separated by spaces
ALTER TABLE instances ADD COLUMN calls_per_second BIGINT NOT NULL DEFAULT 0;  -- 0 is the default of each limit
ALTER TABLE instances ADD COLUMN open_mails       BIGINT NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN providers        BIGINT NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN tokens           BIGINT NOT NULL DEFAULT 0;
UPDATE instances SET name = id;
-- Counts the changes of instances and their keys, all in the row of default: whoever changes one holds that.
ALTER TABLE instances ADD COLUMN revision         BIGINT NOT NULL DEFAULT 0;

CREATE TABLE instance_domains (
    domain   TEXT NOT NULL PRIMARY KEY, -- a host is one instance's
    instance TEXT NOT NULL REFERENCES instances (id)
);
CREATE INDEX instance_domains_of ON instance_domains (instance, domain);

-- What everything of an instance is sealed with, sealed with the keyset. The latest one seals.
CREATE TABLE instance_keys (
    instance   TEXT   NOT NULL REFERENCES instances (id),
    key_id     BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    wrapped_by BIGINT NOT NULL, -- id of the key in the keyset
    ciphertext BYTEA  NOT NULL,
    PRIMARY KEY (instance, key_id)
);

-- The row in instances goes last: as long as it is there, so may be other rows of the instance.
CREATE TABLE removed_instances (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    removed    BIGINT NOT NULL,
    removed_by TEXT   NOT NULL
);
