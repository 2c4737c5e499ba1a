package sqlstore

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

const childVariable = "MAILKEEP_TEST_KILL"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		if err := acknowledge(path, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	pgtest.Main(m)
}

// TestKill kills a process that is changing providers and says which sequences it was promised: all
// of them must be there afterwards, with the provider as it was put. That the disk has them too can
// only be shown by a power cut, which internal/app does.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	for round := range 5 {
		promised := killAfter(t, path, 20+10*round)
		db := openAt(t, path, Options{})
		events, err := db.Events(t.Context(), "default", "", 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if got := uint64(len(events)); got < promised || events[got-1].Sequence != got {
			t.Errorf("%d events, the last is %d; %d were promised", got, events[got-1].Sequence, promised)
		}
		for _, e := range events {
			p, err := db.Provider(t.Context(), "default", e.ProviderID)
			if err != nil || p.Sequence != e.Sequence {
				t.Errorf("provider of event %d: sequence %d, %v", e.Sequence, p.Sequence, err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killAfter returns the last of at least n promises.
func killAfter(t *testing.T, path string, n int) (promised uint64) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for seen := 0; lines.Scan(); {
		var sequence uint64
		if _, err := fmt.Sscan(lines.Text(), &sequence); err != nil {
			t.Fatalf("the child said %q", lines.Text())
		}
		promised = max(promised, sequence)
		if seen++; seen == n { // It goes on meanwhile, and what it still says counts.
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
	return promised
}

// acknowledge adds providers, many at once, until it is killed.
func acknowledge(path string, to io.Writer) error {
	ctx := context.Background()
	db, err := OpenSQLite(ctx, path, Options{})
	if err != nil {
		return err
	}
	page, err := db.List(ctx, "default", emailprovider.Query{Limit: 1})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for caller := range 16 {
		go func() {
			// What was not promised may be there too: no id of an earlier round is tried again.
			for n := 1000 * (int(page.Sequence) + 1); ; n++ {
				sequence, err := db.Apply(ctx, added(provider(100*n+caller)))
				if err == nil {
					_, err = fmt.Fprintln(to, sequence)
				}
				if err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}
