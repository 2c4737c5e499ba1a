-- +goose Up
-- How far this database has come as the source or the target of a copy: one row for the whole, with no
-- table_name, and in the target one for each table.
CREATE TABLE copies (
    role       TEXT   NOT NULL CHECK (role = 'source' OR role = 'target'),
    table_name TEXT   NOT NULL,
    copy_id    TEXT   NOT NULL, -- the same at both ends
    position   BIGINT NOT NULL, -- rowid in the source of the last row that was copied
    finished   BIGINT NOT NULL, -- 0 while it is not
    PRIMARY KEY (role, table_name)
);
