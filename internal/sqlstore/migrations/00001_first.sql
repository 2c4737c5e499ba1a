-- One text for every dialect: types are PostgreSQL's names, which SQLite takes as affinities.
-- Times are microseconds since 1970, UTC; 0 is "never".

-- +goose Up
CREATE TABLE instances (
    id       TEXT   NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL DEFAULT 0, -- of the last change
    created  BIGINT NOT NULL
);
INSERT INTO instances (id, created) VALUES ('default', 0);

CREATE TABLE providers (
    instance           TEXT    NOT NULL REFERENCES instances (id),
    id                 TEXT    NOT NULL,
    kind               TEXT    NOT NULL CHECK (kind IN ('smtp', 'http')),
    active             BOOLEAN NOT NULL,
    description        TEXT    NOT NULL,
    sender_address     TEXT    NOT NULL,
    sender_name        TEXT    NOT NULL,
    reply_to           TEXT    NOT NULL,
    host               TEXT    NOT NULL,
    tls                BOOLEAN NOT NULL,
    smtp_user          TEXT    NOT NULL,
    auth               TEXT    NOT NULL CHECK (auth IN ('none', 'plain', 'xoauth2')),
    token_endpoint     TEXT    NOT NULL,
    client_id          TEXT    NOT NULL,
    scopes             TEXT    NOT NULL, -- a JSON array, or empty
    endpoint           TEXT    NOT NULL,
    credential_version BIGINT  NOT NULL,
    key_id             BIGINT,           -- NULL when no secret is stored
    ciphertext         BYTEA,
    set_at             BIGINT  NOT NULL,
    set_by             TEXT    NOT NULL,
    created            BIGINT  NOT NULL,
    changed            BIGINT  NOT NULL,
    sequence           BIGINT  NOT NULL,
    PRIMARY KEY (instance, id)
);
CREATE UNIQUE INDEX providers_active ON providers (instance) WHERE active;
CREATE INDEX providers_listed ON providers (instance, created, id, kind);
CREATE INDEX providers_sealed ON providers (key_id, instance, id) WHERE key_id IS NOT NULL;

CREATE TABLE events (
    instance    TEXT   NOT NULL REFERENCES instances (id),
    sequence    BIGINT NOT NULL,
    type        TEXT   NOT NULL,
    provider_id TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    token_id    TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    protocol    TEXT   NOT NULL,
    procedure   TEXT   NOT NULL,
    user_agent  TEXT   NOT NULL,
    request_id  TEXT   NOT NULL,
    details     TEXT   NOT NULL, -- JSON
    PRIMARY KEY (instance, sequence)
);
CREATE INDEX events_of_provider ON events (instance, provider_id, sequence);
-- An id is given once, over all instances: its first event outlives the provider.
CREATE UNIQUE INDEX events_added ON events (provider_id) WHERE type = 'provider.added';

CREATE TABLE tokens (
    instance TEXT   NOT NULL REFERENCES instances (id),
    id       TEXT   NOT NULL,
    name     TEXT   NOT NULL,
    hash     BYTEA  NOT NULL UNIQUE,
    roles    TEXT   NOT NULL, -- separated by spaces
    created  BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    PRIMARY KEY (instance, id)
);

-- A revoked token never works again, whoever brings it back.
CREATE TABLE revoked_tokens (
    hash     BYTEA  NOT NULL PRIMARY KEY,
    instance TEXT   NOT NULL REFERENCES instances (id),
    id       TEXT   NOT NULL,
    revoked  BIGINT NOT NULL
);
CREATE INDEX revoked_tokens_of_instance ON revoked_tokens (instance);

CREATE TABLE deprecated_uses (
    instance   TEXT   NOT NULL REFERENCES instances (id),
    method     TEXT   NOT NULL,
    caller     TEXT   NOT NULL,
    user_agent TEXT   NOT NULL,
    calls      BIGINT NOT NULL,
    first_use  BIGINT NOT NULL,
    last_use   BIGINT NOT NULL,
    PRIMARY KEY (instance, method, caller, user_agent)
);
