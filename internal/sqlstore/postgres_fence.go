package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// fence keeps a process from servers that must not be believed: standbys, servers that don't keep what
// they acknowledge, and above all a primary that others have taken over from. Each promotion begins a
// timeline with a higher number; a server with a lower one than was ever seen is refused, and so are
// connections to it that are open already.
type fence struct {
	unsafe      bool   // settings that may lose acknowledged changes are taken
	optional    string // settings of a session, which the server may not have
	log         *slog.Logger
	connections renewing
	survey      survey // of all hosts, if there are several

	mu       sync.Mutex
	system   string // the system identifier: which cluster it is
	timeline uint32 // the highest seen
}

// standby is why most servers are refused.
const standby = "the server takes no changes: it is a standby, or read-only"

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
	config.BeforeClose = f.connections.leave
	config.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		withoutCancel(&c.Config)
		if len(f.survey.hosts) == 1 {
			return nil
		}
		// The host that is listed first may be a former primary.
		primary, err := f.survey.primary(ctx)
		if err != nil {
			return err
		}
		prefer(&c.Config, primary)
		return nil
	}
}

// validate decides about a server that was just connected to. When it refuses, the next host is tried.
func (f *fence) validate(ctx context.Context, conn *pgconn.PgConn) error {
	id, err := identify(ctx, conn, sessionSettings)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, f.optional).ReadAll()
	if server := (*pgconn.PgError)(nil); err != nil && !errors.As(err, &server) {
		return err
	}
	if err := f.admit(id); err != nil {
		return err
	}
	conn.CustomData()[timelineOf] = id.timeline
	f.connections.join(conn)
	return nil
}

// admit takes note of a primary, or refuses the server. A primary that is refused for its settings has
// taken over all the same.
func (f *fence) admit(id identity) error {
	if id.readOnly {
		return &refusal{standby}
	}
	if err := f.note(id); err != nil {
		return err
	}
	if why := id.unsafe(); why != "" && !f.unsafe {
		return &refusal{why + ": an acknowledged change could be lost (--unsafe-durability takes the risk)"}
	}
	return nil
}

// note takes note of what a primary is, and refuses one that is of another cluster or that another has
// taken over from.
func (f *fence) note(id identity) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.system == "":
		f.system = id.system
	case f.system != id.system:
		return &refusal{fmt.Sprintf("the server belongs to cluster %s and the one before to cluster %s: the hosts must be replicas of each other", id.system, f.system)}
	}
	switch {
	case id.timeline < f.timeline:
		return &refusal{fmt.Sprintf("the server is on timeline %d and another has taken over from it on timeline %d: it must not serve as primary any more", id.timeline, f.timeline)}
	case f.timeline != 0 && id.timeline > f.timeline:
		f.log.Warn("PostgreSQL has a new primary", "timeline", id.timeline, "before", f.timeline)
		f.connections.renew()
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

// epoch returns the highest timeline seen.
func (f *fence) epoch() uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.timeline
}

// believes reports whether no higher timeline than the connection's was seen.
func (f *fence) believes(conn *pgx.Conn) bool {
	timeline, _ := conn.PgConn().CustomData()[timelineOf].(uint32)
	return timeline >= f.epoch()
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
