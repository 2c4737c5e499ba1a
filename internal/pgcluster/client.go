package pgcluster

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/mailkeep/mailkeep/internal/loopback"
)

// Command is one of PostgreSQL's client programs, such as pgbench or pg_dump, that connects to the
// cluster as the superuser by itself: nothing secret is among the arguments.
func (c *Cluster) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	command := c.home.command(ctx, name, args...)
	command.Env = append(command.Env, "PGHOST="+loopback.Host, "PGPORT="+strconv.Itoa(c.port), "PGUSER="+superuser,
		"PGPASSWORD="+c.home.password, "PGSSLMODE=disable")
	return command
}

// Query runs statements as the superuser and returns what psql prints of the rows: a line each, columns
// divided by |. It takes a minute at most, as a commit may that waits for a standby.
func (c *Cluster) Query(ctx context.Context, database string, statements ...string) (string, error) {
	args := []string{"--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", "--dbname=" + database}
	for _, s := range statements {
		args = append(args, "--command="+s)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	command := c.Command(ctx, "psql", args...)
	var stderr strings.Builder
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w: %s", c, errors.Join(ctx.Err(), err), strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(output)), nil
}

// admin is a database that is always there.
const admin = "postgres"

// CreateDatabase makes an empty database for URL's role.
func (c *Cluster) CreateDatabase(ctx context.Context, name string) error {
	_, err := c.Query(ctx, admin, "CREATE DATABASE "+identifier(name)+" OWNER "+owner)
	return err
}

// DropDatabase removes a database and disconnects who uses it.
func (c *Cluster) DropDatabase(ctx context.Context, name string) error {
	_, err := c.Query(ctx, admin, "DROP DATABASE IF EXISTS "+identifier(name)+" WITH (FORCE)")
	return err
}

func identifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
