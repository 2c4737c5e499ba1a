// Package pgcluster starts throw-away PostgreSQL clusters from the installed programs, for tests, proofs
// and the benchmark, and does to them what happens to real ones: stop, crash, freeze, failover.
//
// What a process starts ends with it, however it ends: a small shell in a session of its own waits for
// that, kills what is left and removes its files. Clusters are durable as production's are (fsync,
// full_page_writes, synchronous_commit); Options.Settings can say otherwise.
//
// They listen on 127.0.0.1 only, without a unix socket, and ask for a password that is generated for the
// process: with trust, anyone with an account on the machine would be superuser there and could run
// programs as the cluster's user. It costs a millisecond a connection. It needs Linux.
package pgcluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/mailkeep/mailkeep/internal/loopback"
)

// Options are what a cluster has of its own.
type Options struct {
	// Settings of postgresql.conf; they win over those that every cluster has.
	Settings map[string]string
	// InMemory keeps the files in memory where there is room for them: quick, and as good for tests of
	// what is answered. Nothing is measured there that has to do with a disk.
	InMemory bool
}

// Cluster is a PostgreSQL cluster on a port and in a folder of its own. Both stay the same until it is
// closed, however often it is stopped and started. Its methods may be called at the same time.
type Cluster struct {
	home     *home
	folder   string // data and log are in here
	port     int
	settings map[string]string

	mu     sync.Mutex // held by what starts, signals or ends the server
	server *server    // the latest; nil before the first start
}

// Start starts a new cluster. ctx bounds the start, not the cluster's life.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	h, err := ourHome()
	if err != nil {
		return nil, err
	}
	return h.start(ctx, options, func(c *Cluster) error {
		template, err := h.template(ctx)
		if err != nil {
			return err
		}
		return h.run(h.command(ctx, "cp", "-a", "--reflink=auto", template, c.data()))
	})
}

// start makes a cluster whose data fill puts there.
func (h *home) start(ctx context.Context, options Options, fill func(*Cluster) error) (*Cluster, error) {
	root := h.disk
	if options.InMemory {
		root = h.memory
	}
	folder, err := h.makeFolder(root)
	if err != nil {
		return nil, err
	}
	c := &Cluster{home: h, folder: folder, settings: options.Settings}
	if err := fill(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := c.firstStart(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// firstStart finds a port. Another process may take it before the server does, then there is another.
func (c *Cluster) firstStart(ctx context.Context) error {
	for try := 1; ; try++ {
		var err error
		if c.port, err = loopback.FreePort(); err != nil {
			return err
		}
		if err := c.configure(); err != nil {
			return err
		}
		err = c.StartAgain(ctx)
		if err == nil || try == 5 || !strings.Contains(err.Error(), "could not bind") {
			return err
		}
	}
}

// Address is where the cluster listens, as host:port.
func (c *Cluster) Address() string { return loopback.Address(c.port) }

// URL is for the service: the role that CreateDatabase makes databases for. It is no superuser. More
// parameters can be added after an &.
func (c *Cluster) URL(database string) string { return c.URLAt(database, c.Address()) }

// URLAt is URL with other addresses, in their order: those of standbys, which have the same roles, and of
// proxies.
func (c *Cluster) URLAt(database string, addresses ...string) string {
	return c.url(owner, database, strings.Join(addresses, ","))
}

// AdminURL is for a superuser.
func (c *Cluster) AdminURL(database string) string { return c.url(superuser, database, c.Address()) }

func (c *Cluster) url(role, database, hosts string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, c.home.password), Host: hosts, Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// String names the cluster without its password.
func (c *Cluster) String() string { return "the PostgreSQL cluster at " + c.Address() }

// Folder is where its data and its log are.
func (c *Cluster) Folder() string { return c.folder }

// Log is the end of the server's log.
func (c *Cluster) Log() string {
	const most = 4096
	log, err := os.ReadFile(c.logFile())
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-most):])
}

// Close ends the cluster, whatever state it is in, and removes its folder.
func (c *Cluster) Close() error {
	ctx := context.Background() // what it waits for is bounded
	err := c.Kill(ctx)
	c.removeSegment(ctx)
	return errors.Join(err, os.RemoveAll(c.folder))
}

func (c *Cluster) data() string    { return filepath.Join(c.folder, "data") }
func (c *Cluster) logFile() string { return filepath.Join(c.folder, "log") }

// errorf adds what the server has logged, which is where reasons are.
func (c *Cluster) errorf(format string, args ...any) error {
	return fmt.Errorf("%v: %w; its log ends with\n%s", c, fmt.Errorf(format, args...), c.Log())
}
