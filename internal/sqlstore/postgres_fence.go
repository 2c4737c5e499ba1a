package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// patrolInterval is how often a process with several hosts looks at all of them.
	patrolInterval = 2 * time.Second
	// glance bounds the look at one host.
	glance = time.Second
)

// fence keeps a process from servers that must not be believed: standbys, servers that don't keep what
// they acknowledge, and above all a primary that others have taken over from. Each promotion begins a
// timeline with a higher number; a server with a lower one than was ever seen is refused, and so are
// connections to it that are open already.
type fence struct {
	hosts  []*pgconn.Config // one each
	unsafe bool             // settings that may lose acknowledged changes are taken
	log    *slog.Logger

	mu       sync.Mutex
	system   string                    // the system identifier: which cluster it is
	timeline uint32                    // the highest seen
	said     map[*pgconn.Config]string // why a host is not used

	stop context.CancelFunc // ends patrol
	over sync.WaitGroup
}

// refusal is why a server is not believed. It holds nothing secret.
type refusal struct{ why string }

func (r *refusal) Error() string { return "sqlstore: PostgreSQL: " + r.why }

// identity is what a server says of itself.
type identity struct {
	readOnly           bool // a standby, or a primary that takes no changes
	system             string
	timeline           uint32 // 0 of a standby
	fsync, pages, sync string // settings
}

// selectIdentity asks for it. A standby has no current WAL position.
const selectIdentity = `SELECT current_setting('transaction_read_only'), system_identifier::text,
	CASE WHEN pg_is_in_recovery() THEN '0' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,
	current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')
	FROM pg_control_system()`

func identify(ctx context.Context, conn *pgconn.PgConn, settings string) (id identity, err error) {
	results, err := conn.Exec(ctx, settings+selectIdentity).ReadAll()
	if err != nil {
		return id, err
	}
	row := results[len(results)-1].Rows[0]
	timeline, err := strconv.ParseUint(string(row[2]), 16, 32)
	return identity{
		readOnly: string(row[0]) == "on", system: string(row[1]), timeline: uint32(timeline),
		fsync: string(row[3]), pages: string(row[4]), sync: string(row[5]),
	}, err
}

// guard puts the fence before every connection of a pool.
func (f *fence) guard(config *pgxpool.Config) {
	config.ConnConfig.ValidateConnect = f.validate
	config.ConnConfig.OnNotice = noteUnreplicated
	config.PrepareConn = func(_ context.Context, conn *pgx.Conn) (bool, error) { return f.believes(conn), nil }
	if len(f.hosts) > 1 {
		// The host that is listed first may be a former primary.
		config.BeforeConnect = func(ctx context.Context, _ *pgx.ConnConfig) error { f.survey(ctx); return nil }
	}
}

// validate decides about a server that was just connected to. When it refuses, the next host is tried.
func (f *fence) validate(ctx context.Context, conn *pgconn.PgConn) error {
	id, err := identify(ctx, conn, sessionSettings)
	if err != nil {
		return err
	}
	if id.readOnly {
		return &refusal{"the server takes no changes: it is a standby, or read-only"}
	}
	if err := f.admit(id); err != nil {
		return err
	}
	conn.CustomData()[timelineOf] = id.timeline
	return nil
}

// admit takes note of a primary, or refuses it.
func (f *fence) admit(id identity) error {
	if why := id.unsafe(); why != "" && !f.unsafe {
		return &refusal{why + ": an acknowledged change could be lost (--unsafe-durability takes the risk)"}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.system == "":
		f.system = id.system
	case f.system != id.system:
		return &refusal{fmt.Sprintf("the server belongs to cluster %s and the one before to cluster %s: the hosts must be replicas of each other", id.system, f.system)}
	}
	if id.timeline < f.timeline {
		return &refusal{fmt.Sprintf("the server is on timeline %d and another has taken over from it on timeline %d: it must not serve as primary any more", id.timeline, f.timeline)}
	}
	if f.timeline != 0 && id.timeline > f.timeline {
		f.log.Warn("PostgreSQL has a new primary", "timeline", id.timeline, "before", f.timeline)
	}
	f.timeline = id.timeline
	return nil
}

// unsafe names the setting that may lose acknowledged changes, if any.
func (id identity) unsafe() string {
	switch {
	case id.fsync != "on":
		return "fsync is " + id.fsync
	case id.pages != "on":
		return "full_page_writes is " + id.pages
	case id.sync != "on" && id.sync != "remote_apply":
		return "synchronous_commit is " + id.sync
	}
	return ""
}

// Keys of a connection's own data.
const (
	timelineOf   = "mailkeep.timeline"
	unreplicated = "mailkeep.unreplicated"
)

// believes reports whether no higher timeline than the connection's was seen.
func (f *fence) believes(conn *pgx.Conn) bool {
	timeline, _ := conn.PgConn().CustomData()[timelineOf].(uint32)
	f.mu.Lock()
	defer f.mu.Unlock()
	return timeline >= f.timeline
}

// noteUnreplicated takes note that a commit was reported which no standby has: the wait for it was
// cancelled.
func noteUnreplicated(conn *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" && (n.Code == "01000" || n.Code == "57P01") {
		conn.CustomData()[unreplicated] = true
	}
}

// replicated reports whether what was committed over the connection is where it must be.
func replicated(conn *pgx.Conn) bool {
	data := conn.PgConn().CustomData()
	_, noted := data[unreplicated]
	delete(data, unreplicated)
	return !noted
}

// hostsOf returns a configuration for each host of c.
func hostsOf(c *pgx.ConnConfig) (hosts []*pgconn.Config) {
	seen := map[string]bool{}
	add := func(host string, port uint16, like *pgconn.Config, fallback *pgconn.FallbackConfig) {
		address := net.JoinHostPort(host, strconv.Itoa(int(port)))
		if seen[address] {
			return
		}
		seen[address] = true
		one := like.Copy()
		one.Host, one.Port, one.Fallbacks = host, port, nil
		if fallback != nil {
			one.TLSConfig = fallback.TLSConfig
		}
		one.ValidateConnect, one.AfterConnect = nil, nil
		hosts = append(hosts, one)
	}
	add(c.Host, c.Port, &c.Config, nil)
	for _, f := range c.Fallbacks {
		add(f.Host, f.Port, &c.Config, f)
	}
	return hosts
}

// survey looks at every host and takes note of the highest timeline.
func (f *fence) survey(ctx context.Context) {
	var all sync.WaitGroup
	for _, host := range f.hosts {
		all.Go(func() { f.lookAt(ctx, host) })
	}
	all.Wait()
}

// lookAt takes note of a host that is a primary. One that does not answer is for others to worry about.
func (f *fence) lookAt(ctx context.Context, host *pgconn.Config) {
	ctx, cancel := context.WithTimeout(ctx, glance)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, host)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(ctx) }() // It is not used again.
	id, err := identify(ctx, conn, "")
	if err != nil || id.readOnly {
		return
	}
	var refused *refusal
	if err := f.admit(id); errors.As(err, &refused) && f.news(host, refused.why) {
		f.log.Warn("a server of --database-url is not used", "host", host.Host, "port", host.Port, "why", refused.why)
	}
}

// news reports whether nothing else was said of the host before.
func (f *fence) news(host *pgconn.Config, why string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.said == nil {
		f.said = map[*pgconn.Config]string{}
	}
	before := f.said[host]
	f.said[host] = why
	return before != why
}

// patrol surveys the hosts from time to time: a primary that hung while another took over from it
// must not be believed when it goes on.
func (f *fence) patrol() {
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	if len(f.hosts) < 2 {
		return
	}
	f.over.Go(func() {
		ticker := time.NewTicker(patrolInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				f.survey(ctx)
			}
		}
	})
}

func (f *fence) close() {
	if f.stop != nil {
		f.stop()
	}
	f.over.Wait()
}
