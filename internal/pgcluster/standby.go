package pgcluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/mailkeep/mailkeep/internal/loopback"
)

var plainName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Standby copies the cluster and starts the copy as a standby that follows it under a name, which is
// what SetSynchronous calls it. It returns when it streams. It has the cluster's settings and, over these,
// those of options.
func (c *Cluster) Standby(ctx context.Context, name string, options Options) (*Cluster, error) {
	if !plainName.MatchString(name) {
		return nil, fmt.Errorf("standby %q: a name has small letters, digits and _ only", name)
	}
	settings := map[string]string{}
	maps.Copy(settings, c.settings)
	settings["primary_conninfo"] = fmt.Sprintf("host=%s port=%d user=%s password=%s application_name=%s sslmode=disable",
		loopback.Host, c.port, superuser, c.home.password, name)
	maps.Copy(settings, options.Settings)
	options.Settings = settings
	standby, err := c.home.start(ctx, options, func(standby *Cluster) error {
		return c.copyTo(ctx, standby)
	})
	if err != nil {
		return nil, fmt.Errorf("standby %s of %v: %w", name, c, err)
	}
	if err := c.streams(ctx, name); err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	return standby, nil
}

// copyTo takes a base backup. What ALTER SYSTEM has set in the primary is not for the standby: it would
// wait for itself once it is promoted.
func (c *Cluster) copyTo(ctx context.Context, standby *Cluster) error {
	backup := c.Command(ctx, "pg_basebackup", "-D", standby.data(), "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	if err := c.home.run(backup); err != nil {
		return err
	}
	if err := c.home.write(filepath.Join(standby.data(), "postgresql.auto.conf"), ""); err != nil {
		return err
	}
	return c.home.write(filepath.Join(standby.data(), "standby.signal"), "")
}

// streams waits until a standby has caught up and follows.
func (c *Cluster) streams(ctx context.Context, name string) error {
	return c.wait(ctx, "standby "+name, func() (bool, error) {
		state, err := c.Query(ctx, admin, "SELECT state FROM pg_stat_replication WHERE application_name = "+quote(name))
		return state == "streaming", err
	})
}

// SetSynchronous sets synchronous_standby_names, such as "a" or "ANY 1 (a, b)", and returns when commits
// wait for these standbys; with "" they wait for none.
func (c *Cluster) SetSynchronous(ctx context.Context, names string) error {
	_, err := c.Query(ctx, admin, "ALTER SYSTEM SET synchronous_standby_names = "+quote(names), "SELECT pg_reload_conf()")
	if err != nil {
		return err
	}
	inForce := "SELECT current_setting('synchronous_standby_names') = " + quote(names) + " AND (" + quote(names) + " <> '') = " +
		"EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))"
	err = c.wait(ctx, "synchronous_standby_names", func() (bool, error) {
		now, err := c.Query(ctx, admin, inForce)
		return now == "t", err
	})
	if err != nil {
		return err
	}
	// That commits have to wait is the checkpointer's to say. It reads its settings before a checkpoint;
	// the first one may have begun too early.
	_, err = c.Query(ctx, admin, "CHECKPOINT", "CHECKPOINT")
	return err
}

// Promote makes a primary of a standby, on a timeline of its own, and returns when it takes writes.
func (c *Cluster) Promote(ctx context.Context) error {
	err := c.home.run(c.home.command(ctx, "pg_ctl", "promote", "-D", c.data(), "-t", strconv.Itoa(int(patience.Seconds()))))
	if err != nil {
		return c.errorf("promote: %w", err)
	}
	return c.wait(ctx, "promote", func() (bool, error) {
		recovering, err := c.Query(ctx, admin, "SELECT pg_is_in_recovery()")
		return recovering == "f", err
	})
}
