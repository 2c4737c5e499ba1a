package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/mailkeep/mailkeep/internal/pgcluster"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// cluster is one of PostgreSQL that the run has to itself.
type cluster struct {
	*pgcluster.Cluster
	databases atomic.Int64
}

// clusterSettings are PostgreSQL's own where clusters for tests have smaller ones. What is durable is
// left as it is.
var clusterSettings = map[string]string{"shared_buffers": "128MB", "autovacuum_max_workers": "3"}

// findPostgres returns an error if the programs are not installed.
func findPostgres() error {
	programs, err := pgcluster.Find()
	if err == nil {
		_, err = exec.LookPath(filepath.Join(programs.Folder, "pgbench"))
	}
	return err
}

// startCluster starts the cluster.
func startCluster(ctx context.Context) (*cluster, error) {
	c, err := pgcluster.Start(ctx, pgcluster.Options{Settings: clusterSettings})
	if err != nil {
		return nil, err
	}
	return &cluster{Cluster: c}, nil
}

// create makes an empty database.
func (p *cluster) create(ctx context.Context) (database, error) {
	name := fmt.Sprintf("bench%d", p.databases.Add(1))
	return database{
		name: name, url: secret.New(p.URL(name)),
		drop: func() error { return p.DropDatabase(context.WithoutCancel(ctx), name) },
	}, p.CreateDatabase(ctx, name)
}

// fill copies the one provider of a database, and the event that says that it was added.
func (p *cluster) fill(ctx context.Context, in database, copies int) error {
	// What is generated of a row can't be given.
	const copyRows = `DO $do$ DECLARE columns text; BEGIN
		SELECT string_agg(quote_ident(column_name), ', ') INTO columns FROM information_schema.columns
			WHERE table_name = '%[1]s' AND is_generated = 'NEVER';
		EXECUTE 'INSERT INTO %[1]s (' || columns || ') SELECT ' || columns || $insert$ FROM (SELECT c.* FROM %[1]s t,
			generate_series(1, %[2]d) i, jsonb_populate_record(t, jsonb_build_object(%[3]s, 'sequence', t.sequence + i)) c) copies $insert$;
		END $do$`
	_, err := p.Query(ctx, in.name,
		fmt.Sprintf(copyRows, "providers", copies, `'id', lpad((t.id::bigint + i)::text, 18, '0'), 'created', t.created + i, 'changed', t.changed + i`),
		fmt.Sprintf(copyRows, "events", copies, `'provider_id', lpad((t.provider_id::bigint + i)::text, 18, '0'), 'at', t.at + i`),
		fmt.Sprintf(`UPDATE instances SET sequence = sequence + %d`, copies),
		`VACUUM (ANALYZE) providers, events, instances`, // which would else begin while changes are measured
	)
	return err
}

// unsafeSettings are those without which figures mean nothing, where they are off: for the whole server, or for
// a role or a database.
const unsafeSettings = `WITH wanted (name) AS (VALUES ('fsync'), ('full_page_writes'), ('synchronous_commit'))
	SELECT name || '=' || setting FROM pg_settings JOIN wanted USING (name) WHERE setting <> 'on'
	UNION SELECT s FROM pg_db_role_setting, unnest(setconfig) s JOIN wanted ON split_part(s, '=', 1) = name WHERE s NOT LIKE '%=on'`

// durable returns an error if the server says that what it acknowledges may be lost.
func (p *cluster) durable(ctx context.Context) error {
	unsafe, err := p.Query(ctx, "postgres", unsafeSettings)
	if err == nil && unsafe != "" {
		err = fmt.Errorf("PostgreSQL is measured only with all of it durable, and has %s", strings.Join(strings.Fields(unsafe), ", "))
	}
	return err
}

// onPostgres has a database for each service.
func (b *bed) onPostgres() *backing {
	return b.servedOn(&backing{
		name: "PostgreSQL",
		create: func(ctx context.Context) (database, error) {
			p, err := b.cluster()
			if err != nil {
				return database{}, err
			}
			return p.create(ctx)
		},
		fill: func(ctx context.Context, _ string, in database, copies int) error {
			p, err := b.cluster()
			if err != nil {
				return err
			}
			return p.fill(ctx, in, copies)
		},
	})
}

// ifDurable lets a cell have no sample when PostgreSQL is not durable.
func (b *bed) ifDurable(c *cell) {
	open := c.open
	c.open = func() (measure, error) {
		p, err := b.cluster()
		if err != nil {
			return nil, err
		}
		measure, err := open()
		return func(ctx context.Context) (sample, error) {
			s, err := measure(ctx)
			if err != nil {
				return s, err
			}
			return s, p.durable(ctx)
		}, err
	}
}
