package sqlstore

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// TestAloneIsBounded: a start does not wait for ever for what another process does alone, be it migrating
// or setting up, and succeeds once that is over.
func TestAloneIsBounded(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	holder := openURL(t, url, Options{})
	impatient := Options{lockPatience: 200 * time.Millisecond}
	another := openURL(t, url, impatient)
	for name, c := range map[string]struct {
		lock int64
		do   func() error
	}{
		"migrating":  {migrating, func() error { _, err := MigratePostgres(t.Context(), url, impatient); return err }},
		"setting up": {settingUp, func() error { return another.SetUp(t.Context(), func() error { return nil }) }},
	} {
		release, held := make(chan struct{}), make(chan struct{})
		done := make(chan error)
		go func() {
			done <- alone(t.Context(), sharedEngine(holder).pool, c.lock, lockPatience, func() error { close(held); <-release; return nil })
		}()
		<-held
		if err := c.do(); !errors.Is(err, errNotAlone) {
			t.Errorf("%s beside another: %v, want %v", name, err, errNotAlone)
		}
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := c.do(); err != nil {
			t.Errorf("%s afterwards: %v", name, err)
		}
	}
}

// TestNobodyIsThere: a start without a server, or with one that does not answer, fails in time and says so.
func TestNobodyIsThere(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for _, hosts := range []string{silent.Addr().String(), closed.Addr().String(), silent.Addr().String() + "," + closed.Addr().String()} {
		began := time.Now()
		_, err := OpenPostgres(context.Background(), "postgres://u:c4n4ry@"+hosts+"/db?connect_timeout=1", Options{})
		if took := time.Since(began); fault.KindOf(err) != fault.Unavailable || took > postgresPatience+slack {
			t.Errorf("%s: %v after %s", hosts, err, took)
		}
		if err != nil && (!strings.Contains(err.Error(), hosts[strings.LastIndexByte(hosts, ':')+1:]) || strings.Contains(err.Error(), "c4n4ry")) {
			t.Errorf("%s: the error names no host, or a password: %v", hosts, err)
		}
	}
}

// TestOptionalSettings: a server that lacks a setting which only helps it is taken.
func TestOptionalSettings(t *testing.T) {
	config, f, err := postgresConfig(pgtest.Database(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.optional = `SET a_setting_of_the_future = on`
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := pool.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if f.optional = checkClients; pool.Config().MaxConns < 2 {
		t.Error("there is one connection only")
	}
	pool.Reset()
	var got string
	if err := pool.QueryRow(t.Context(), `SHOW client_connection_check_interval`).Scan(&got); err != nil || got != "1s" {
		t.Errorf("client_connection_check_interval is %s, %v", got, err)
	}
}
