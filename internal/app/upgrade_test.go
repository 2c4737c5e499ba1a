package app_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/seal"
)

// newFile is a keyset that is written once.
type newFile struct{ file }

func (f newFile) Write(data []byte) error { return os.WriteFile(string(f.file), data, 0o600) }

// TestKeyOfDefault: an installation that has sealed with its keyset goes on with that, as its replicas of
// the version before do, until a rotation gives the default instance a key of its own; what is older opens.
func TestKeyOfDefault(t *testing.T) {
	c := config(t)
	c.KeepBodies = true
	c.KeysetFile = filepath.Join(t.TempDir(), "keyset.json")
	keyset, err := seal.Create(newFile{file(c.KeysetFile)}) // as if it had been in use
	if err != nil {
		t.Fatal(err)
	}
	plain, err := keyset.SealBytes([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, c)
	server := inbox(t, "right")
	id := s.addProvider(t, server.Addr(), "right")
	key := func() uint32 {
		t.Helper()
		p, err := s.Providers.Get(t.Context(), instance.Default, id)
		if err != nil {
			t.Fatal(err)
		}
		return p.Credential.Sealed.KeyID
	}
	if key() != plain.KeyID {
		t.Errorf("before a rotation key %d seals, want the keyset's %d", key(), plain.KeyID)
	}
	mail := s.sendMail(t)
	s.asSystem(t, "RotateKeys", `{}`)
	keyset, err = seal.Load(file(c.KeysetFile))
	if err != nil {
		t.Fatal(err)
	}
	primary, err := keyset.SealBytes([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if key() == plain.KeyID || key() == primary.KeyID {
		t.Errorf("after a rotation key %d of the keyset still seals", key())
	}
	for range 2 {
		s.sendTest(t, id)
		if content, err := s.Messages.Content(t.Context(), instance.Default, mail); err != nil || content.Text == "" {
			t.Errorf("the mail from before: %v", err)
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		s = start(t, c)
	}
}
