package app_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// busy is a service on which mails of every fate are sent and providers changed all the time.
type busy struct {
	*killing
	service  *service
	sequence atomic.Uint64 // of the last change of a provider that was acknowledged
}

func startBusy(t *testing.T) *busy {
	t.Helper()
	c := config(t)
	b := &busy{killing: newKilling(t, ""), service: start(t, c)}
	b.dir = c.DataDir
	server := &child{t: t, client: b.client, url: b.service.URL(), token: adminToken}
	b.activate(server)
	active, err := b.service.Providers.GetActive(t.Context(), instance.Default)
	if err != nil {
		t.Fatal(err)
	}
	b.sequence.Store(active.Sequence)
	stop := make(chan struct{})
	var load sync.WaitGroup
	until := func(do func()) {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					do()
				}
			}
		})
	}
	until(func() { b.load(server, 100) })
	for range 2 {
		until(b.changeProviders)
	}
	t.Cleanup(func() {
		close(stop)
		load.Wait()
		b.client.CloseIdleConnections()
	})
	return b
}

// changeProviders has a provider come, get new passwords and go, which also moves the log into the database.
func (b *busy) changeProviders() {
	ctx, providers := context.Background(), b.service.Providers
	p, err := providers.AddSMTP(ctx, operator, emailprovider.SMTPSettings{
		SenderAddress: "s@example.com", SenderName: "S", Host: b.inbox.Addr(), User: user,
		Auth: emailprovider.AuthSettings{Secret: secret.New("p")},
	})
	for range 20 {
		if err == nil {
			b.promise(p.Sequence)
			p, err = providers.SetPassword(ctx, operator, p.ID, secret.New("p"))
		}
	}
	if err == nil {
		b.promise(p.Sequence)
		p, err = providers.Remove(ctx, operator, p.ID)
	}
	if err != nil {
		b.t.Errorf("a change failed: %v", err)
		return
	}
	b.promise(p.Sequence)
}

func (b *busy) promise(sequence uint64) {
	for {
		last := b.sequence.Load()
		if sequence <= last || b.sequence.CompareAndSwap(last, sequence) {
			return
		}
	}
}

// promises are what a backup that begins now must have.
func (b *busy) promises() (mails []string, sequence uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.promised {
		mails = append(mails, id)
	}
	return mails, b.sequence.Load()
}

// faults says what is wrong with a data folder that was promised to have these.
func faults(t *testing.T, dir string, mails []string, sequence uint64) (wrong []string) {
	t.Helper()
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	s := read(t, dir)
	if s.Page.Sequence < sequence {
		complain("sequence %d was promised and %d is stored", sequence, s.Page.Sequence)
	}
	if got := uint64(len(s.Events)); got != s.Page.Sequence {
		complain("%d events at sequence %d", got, s.Page.Sequence)
	}
	latest := map[string]emailprovider.Event{}
	for i, e := range s.Events {
		if e.Sequence != uint64(i+1) {
			complain("event %d has sequence %d", i+1, e.Sequence)
		}
		if latest[e.ProviderID] = e; e.Type == emailprovider.EventRemoved {
			delete(latest, e.ProviderID)
		}
	}
	for _, p := range s.Page.Providers {
		if e := latest[p.ID]; p.Sequence != e.Sequence {
			complain("provider %s is at sequence %d, its last event at %d", p.ID, p.Sequence, e.Sequence)
		}
		delete(latest, p.ID)
	}
	for id := range latest {
		complain("provider %s has events and is not there", id)
	}
	states := map[string]outbox.State{}
	for _, m := range s.Mails {
		states[m.ID] = m.State
		if _, has := s.Contents[m.ID]; has != m.State.Open() {
			complain("a mail that is %s has its content: %t", m.State, has)
		}
		if len(s.Attempts[m.ID]) != m.Attempts {
			complain("a mail has %d attempts, %d are recorded", m.Attempts, len(s.Attempts[m.ID]))
		}
	}
	for _, id := range mails {
		if states[id] == "" {
			complain("a mail that was promised is not stored")
		}
	}
	return wrong
}

// TestBackupUnderLoad backs up a service that is changed all the time: what was acknowledged before a
// backup began is in it, and all that is in it fits together. The red control is a copy of the
// database's file.
func TestBackupUnderLoad(t *testing.T) {
	rounds := atLength(2, 12)
	b := startBusy(t)
	folder := t.TempDir()
	var mails []string
	var sequence uint64
	var took time.Duration
	wrong, control := 0, 0
	for round := range rounds {
		for enough := b.acknowledged() + 50; b.acknowledged() < enough; time.Sleep(time.Millisecond) {
		}
		mails, sequence = b.promises()
		control += b.plainCopy(mails, sequence)
		file := filepath.Join(folder, fmt.Sprint(round))
		begun := time.Now()
		if err := doErrand(t, "backup", b.dir, file); err != nil {
			t.Fatal(err)
		}
		took += time.Since(begun)
		dir := newFolder(t, filepath.Join(b.dir, "keyset.json"))
		if _, err := app.Restore(t.Context(), app.RestoreOptions{From: file, DataDir: dir}); err != nil {
			t.Fatal(err)
		}
		for _, w := range faults(t, dir, mails, sequence) {
			wrong++
			t.Errorf("backup %d: %s", round+1, w)
		}
	}
	for range 50 { // the log may just have been moved into the database each time
		if control > 0 {
			break
		}
		control = b.plainCopy(b.promises())
	}
	t.Logf("REL backup_under_load backups=%d mails=%d changes=%d wrong=%d control_wrong=%d ms_each=%d",
		rounds, len(mails), sequence, wrong, control, took.Milliseconds()/int64(rounds))
	if control == 0 {
		t.Error("red control: nothing is wrong with copies of the file")
	}
}

// plainCopy counts what is wrong with a copy of the database's file.
func (b *busy) plainCopy(mails []string, sequence uint64) int {
	b.t.Helper()
	dir := newFolder(b.t, "")
	// By another process: this one would lose its locks on the database.
	if out, err := exec.CommandContext(b.t.Context(), "cp", filepath.Join(b.dir, "mailkeep.db"), dir).CombinedOutput(); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	if _, err := app.Backup(b.t.Context(), app.BackupOptions{DataDir: dir, To: filepath.Join(dir, "backup")}); err != nil {
		return 1 // it is torn
	}
	return len(faults(b.t, dir, mails, sequence))
}
