package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
)

// setting is a pragma of SQLite that every connection must have.
type setting struct {
	name       string
	value      string // what is set
	reads      string // what SQLite then answers
	durability bool   // Options.UnsafeDurability allows other values
}

// busyTimeout is how long SQLite waits for a lock, in milliseconds.
const busyTimeout = "5000"

// settings are taken in this order: busy_timeout (milliseconds) first, since the others may have to
// wait for a lock. journal_mode and synchronous make an acknowledged change survive a power cut,
// secure_delete overwrites removed secrets, trusted_schema and mmap_size keep a tampered file from
// running functions and an I/O error from being a signal.
var settings = []setting{
	{name: "busy_timeout", value: busyTimeout, reads: busyTimeout},
	{name: "journal_mode", value: "WAL", reads: "wal", durability: true},
	{name: "synchronous", value: "FULL", reads: "2", durability: true},
	{name: "foreign_keys", value: "ON", reads: "1"},
	{name: "secure_delete", value: "ON", reads: "1"},
	{name: "trusted_schema", value: "OFF", reads: "0"},
	{name: "mmap_size", value: "0", reads: "0"},
}

// chosen returns the value to set.
func (s setting) chosen(o Options) string {
	if v, ok := o.Settings[s.name]; ok {
		return v
	}
	return s.value
}

// checkSettings reads every setting back and refuses a connection that has another value.
func checkSettings(ctx context.Context, conn driver.Conn, o Options) error {
	for _, s := range settings {
		if s.durability && o.UnsafeDurability {
			continue
		}
		got, err := readPragma(ctx, conn, s.name)
		if err != nil {
			return fmt.Errorf("sqlstore: read back SQLite's setting %s: %w", s.name, err)
		}
		if got != s.reads {
			return fmt.Errorf("sqlstore: SQLite's setting %s reads %q and must read %q (%s)",
				s.name, got, s.reads, s.value)
		}
	}
	return nil
}

func readPragma(ctx context.Context, conn driver.Conn, name string) (_ string, err error) {
	queryer, ok := conn.(driver.QueryerContext)
	if !ok {
		return "", errors.New("the driver can't query")
	}
	rows, err := queryer.QueryContext(ctx, "PRAGMA "+name, nil)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	value := make([]driver.Value, 1)
	if err := rows.Next(value); err != nil {
		return "", err
	}
	return fmt.Sprint(value[0]), nil
}
