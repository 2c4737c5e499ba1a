package pgcluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mailkeep/mailkeep/internal/loopback"
)

// The roles of every cluster.
const (
	superuser = "postgres"
	owner     = "mailkeep" // of databases
)

// access lets everyone in who has a password, over loopback.
const access = `
host all         all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
`

// defaults start fast, lose nothing, and can be followed by a standby at once.
var defaults = map[string]string{
	"fsync":              "on",
	"full_page_writes":   "on",
	"synchronous_commit": "on",

	"listen_addresses":        loopback.Host,
	"unix_socket_directories": "",
	"max_connections":         "200",
	"shared_buffers":          "32MB",
	// Posix shared memory would be left over by a crash; these files are in the cluster's folder.
	"dynamic_shared_memory_type": "mmap",

	"wal_level":                       "replica",
	"hot_standby":                     "on",
	"max_wal_senders":                 "10",
	"wal_keep_size":                   "256MB", // a standby that was frozen finds what it missed
	"wal_retrieve_retry_interval":     "100ms", // a standby notices soon that its primary is back
	"log_checkpoints":                 "off",
	"default_text_search_config":      "pg_catalog.english",
	"timezone":                        "UTC",
	"log_timezone":                    "UTC",
	"cluster_name":                    "mailkeep-throw-away",
	"autovacuum_max_workers":          "1",
	"max_logical_replication_workers": "0",
}

// template is a folder with the data of a fresh cluster, made once: clusters are copies of it.
func (h *home) template(ctx context.Context) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.initialised != "" {
		return h.initialised, nil
	}
	folder, err := h.makeFolder(h.memory)
	if err != nil {
		return "", err
	}
	data := filepath.Join(folder, "template")
	if err := h.initialise(ctx, data); err != nil {
		return "", errors.Join(err, os.RemoveAll(folder))
	}
	h.initialised = data
	return data, nil
}

// initialise does not sync to disk, nor do copies: nothing of them is there after the machine has
// crashed. What a cluster writes once it runs is synced.
func (h *home) initialise(ctx context.Context, data string) error {
	err := h.run(h.command(ctx, "initdb", "-D", data, "--no-sync", "--username="+superuser, "--auth=reject",
		"--encoding=UTF8", "--no-locale"))
	if err != nil {
		return err
	}
	if err := h.write(filepath.Join(data, "pg_hba.conf"), access); err != nil {
		return err
	}
	roles := h.command(ctx, "postgres", "--single", "-D", data, "-c", "fsync=off", "-c", "log_min_error_statement=panic", "postgres")
	password := quote(h.password)
	roles.Stdin = strings.NewReader("ALTER ROLE " + superuser + " PASSWORD " + password + "\n" +
		"CREATE ROLE " + owner + " LOGIN PASSWORD " + password + "\n")
	return h.run(roles)
}

// configure writes postgresql.conf.
func (c *Cluster) configure() error {
	settings := maps.Clone(defaults)
	settings["port"] = fmt.Sprint(c.port)
	maps.Copy(settings, c.settings)
	var file strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&file, "%s = %s\n", name, quote(settings[name]))
	}
	return c.home.write(filepath.Join(c.data(), "postgresql.conf"), file.String())
}

// quote makes a literal, of SQL as of postgresql.conf.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
