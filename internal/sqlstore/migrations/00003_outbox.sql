-- Mails on their way. Times as in 00001; due is when a mail can be claimed, 0 once it is settled.
-- No condition is an IN: SQLite builds a table for each evaluation, which would double the price of a change.

-- +goose Up
CREATE TABLE messages (
    instance           TEXT    NOT NULL REFERENCES instances (id),
    id                 TEXT    NOT NULL,
    state              TEXT    NOT NULL,
    open               BOOLEAN NOT NULL CHECK (CASE state
        WHEN 'queued' THEN open WHEN 'sending' THEN open
        WHEN 'delivered' THEN NOT open WHEN 'failed' THEN NOT open
        WHEN 'cancelled' THEN NOT open WHEN 'expired' THEN NOT open ELSE FALSE END),
    due                BIGINT  NOT NULL,
    expires            BIGINT  NOT NULL,
    fence              BIGINT  NOT NULL,
    changed            BIGINT  NOT NULL,
    created            BIGINT  NOT NULL,
    attempts           BIGINT  NOT NULL,
    provider_id        TEXT    NOT NULL, -- of the latest attempt, as the next one
    credential_version BIGINT  NOT NULL,
    tag                TEXT    NOT NULL,
    idempotency_key    TEXT,             -- NULL for none, as the next one
    fingerprint        BYTEA,
    recipient          TEXT    NOT NULL, -- address of the first one in lower case
    recipients         TEXT    NOT NULL, -- JSON
    reason             TEXT    NOT NULL,
    last_attempt       TEXT,             -- JSON; the one that settled the mail
    PRIMARY KEY (instance, id)
);
CREATE UNIQUE INDEX messages_idempotency ON messages (instance, idempotency_key) WHERE idempotency_key IS NOT NULL;
-- Settled mails are in no index that workers read: what they do takes as long with a million of these.
CREATE INDEX messages_due ON messages (instance, due) WHERE open;
CREATE INDEX messages_expiring ON messages (instance, expires) WHERE open;
CREATE INDEX messages_open ON messages (instance, id) WHERE open;
CREATE INDEX messages_unhappy ON messages (instance, id) WHERE NOT open AND state <> 'delivered';
CREATE INDEX messages_tagged ON messages (instance, tag, id) WHERE tag <> '';
-- Every mail has a recipient: the condition makes SQLite prefer this index to the primary key.
CREATE INDEX messages_to ON messages (instance, recipient, id) WHERE recipient <> '';

-- Who gets a mail besides its first recipient, in lower case.
CREATE TABLE message_recipients (
    instance TEXT NOT NULL,
    address  TEXT NOT NULL,
    id       TEXT NOT NULL,
    PRIMARY KEY (instance, address, id)
);

-- Apart from messages, whose rows are rewritten whenever a state changes.
CREATE TABLE message_contents (
    instance   TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    key_id     BIGINT NOT NULL,
    ciphertext BYTEA  NOT NULL,
    PRIMARY KEY (instance, id)
);

-- The attempts that did not settle their mail. Most mails have none.
CREATE TABLE attempts (
    instance TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    number   BIGINT NOT NULL,
    record   TEXT   NOT NULL, -- JSON
    PRIMARY KEY (instance, id, number)
);

-- What came of using each version of a provider's credential. It outlives the provider.
CREATE TABLE credential_uses (
    instance     TEXT   NOT NULL,
    provider_id  TEXT   NOT NULL,
    version      BIGINT NOT NULL,
    first_used   BIGINT NOT NULL,
    last_success BIGINT NOT NULL,
    last_failure BIGINT NOT NULL,
    failure_step TEXT   NOT NULL,
    failure_code BIGINT NOT NULL,
    failure_text TEXT   NOT NULL,
    mails        BIGINT NOT NULL,
    failures     BIGINT NOT NULL,
    probe        BIGINT NOT NULL, -- 0 while the breaker is closed
    cert_expires BIGINT NOT NULL,
    PRIMARY KEY (instance, provider_id, version)
);
