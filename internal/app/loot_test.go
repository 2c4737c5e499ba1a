package app_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/seal"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// loot is what somebody has copied out of a tenant's rows: a provider, and a mail with its body.
type loot struct {
	outbox.Store // of nothing else
	provider     emailprovider.Provider
	mail         outbox.Message
	body         emailprovider.Sealed
}

// sealedInLoot is how much of it is sealed: a password and a body.
const sealedInLoot = 2

func steal(t *testing.T, n *tenant, mail string) *loot {
	t.Helper()
	l := &loot{}
	var errs [3]error
	l.provider, errs[0] = n.s.Providers.Store.Provider(t.Context(), n.id, n.provider)
	l.mail, errs[1] = n.s.Messages.Store.Message(t.Context(), n.id, mail)
	l.body, errs[2] = n.s.Messages.Store.Content(t.Context(), n.id, mail)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return l
}

// Message implements outbox.Store.
func (l *loot) Message(context.Context, string, string) (outbox.Message, error) { return l.mail, nil }

// Content implements outbox.Store.
func (l *loot) Content(context.Context, string, string) (outbox.Sealed, error) { return l.body, nil }

// open tries to open it with all that a service has, and returns how much opens.
func (l *loot) open(t *testing.T, s *service, c app.Config) (opened int) {
	t.Helper()
	keyset, err := seal.Load(file(cmp.Or(c.KeysetFile, filepath.Join(c.DataDir, "keyset.json"))))
	if err != nil {
		t.Fatal(err)
	}
	ring := seal.NewRing(keyset, s.Messages.Store.(seal.InstanceKeys), time.Now)
	quiet := slog.New(slog.DiscardHandler)
	var password, body int
	for _, sealer := range []outbox.Sealer{
		s.Messages.Sealer, ring, keysOf{ring, "b"}, keysOf{ring, instance.Default}, onlyKeyset{keyset},
	} {
		_, err := emailprovider.NewService(emailprovider.Config{Sealer: passwords{sealer}, Log: quiet}).Route(l.provider)
		if err == nil {
			password = 1
		}
		reader, _ := outbox.NewService(outbox.Config{Store: l, Sealer: sealer, Log: quiet})
		if content, err := reader.Content(t.Context(), l.mail.Instance, l.mail.ID); err == nil && content.Text != "" {
			body = 1
		}
	}
	return password + body
}

// file is a keyset to read.
type file string

func (f file) Read() ([]byte, error) { return os.ReadFile(string(f)) }
func (f file) Write([]byte) error    { return errors.ErrUnsupported }

// keysOf opens everything with the keys of one instance.
type keysOf struct {
	*seal.Ring
	id string
}

func (k keysOf) OpenBytes(_ string, sealed outbox.Sealed, associated []byte) ([]byte, error) {
	return k.Ring.OpenBytes(k.id, sealed, associated)
}

// onlyKeyset opens everything with the keyset itself.
type onlyKeyset struct{ keyset *seal.Keyset }

func (o onlyKeyset) SealBytes(_ string, plain, associated []byte) (outbox.Sealed, error) {
	return o.keyset.SealBytes(plain, associated)
}

func (o onlyKeyset) OpenBytes(_ string, sealed outbox.Sealed, associated []byte) ([]byte, error) {
	return o.keyset.OpenBytes(sealed, associated)
}

// passwords is the sealer of passwords with the keys of a sealer of bodies.
type passwords struct{ outbox.Sealer }

func (p passwords) Seal(plain secret.Text, to emailprovider.Binding) (emailprovider.Sealed, error) {
	return p.SealBytes(to.Instance, []byte(plain.Reveal()), to.AssociatedData())
}

func (p passwords) Open(sealed emailprovider.Sealed, to emailprovider.Binding) (secret.Text, error) {
	plain, err := p.OpenBytes(to.Instance, sealed, to.AssociatedData())
	return secret.New(string(plain)), err
}
