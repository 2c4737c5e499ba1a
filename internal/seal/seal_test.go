package seal_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/seal"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// memory is a File; the real one is tested where it is made.
type memory struct {
	data []byte
	full error
}

func (m *memory) Read() ([]byte, error) {
	if m.data == nil {
		return nil, fs.ErrNotExist
	}
	return m.data, nil
}

func (m *memory) Write(data []byte) error {
	if m.full != nil {
		return m.full
	}
	m.data = data
	return nil
}

var (
	here = emailprovider.Binding{
		Instance: "default", Provider: "1", Field: "password", Version: 1, Host: "h:25", User: "u",
		TokenEndpoint: "https://t", ClientID: "c",
	}
	plain = secret.New("pass wörd")
)

func create(t *testing.T) (*seal.Keyset, *memory) {
	t.Helper()
	file := &memory{}
	k, err := seal.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	return k, file
}

func mustSeal(t *testing.T, k *seal.Keyset) emailprovider.Sealed {
	t.Helper()
	sealed, err := k.Seal(plain, here)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func opens(k *seal.Keyset, s emailprovider.Sealed, to emailprovider.Binding) bool {
	got, err := k.Open(s, to)
	return err == nil && got.Reveal() == plain.Reveal()
}

// TestBoundToEverything changes each field of the binding in turn, by reflection, so that a field
// added later and forgotten in AssociatedData fails here.
func TestBoundToEverything(t *testing.T) {
	k, _ := create(t)
	sealed := mustSeal(t, k)
	if !opens(k, sealed, here) {
		t.Fatal("does not open where it was sealed")
	}
	for i := range reflect.TypeFor[emailprovider.Binding]().NumField() {
		moved := here
		f := reflect.ValueOf(&moved).Elem().Field(i)
		if f.Kind() == reflect.String {
			f.SetString(f.String() + "x")
		} else {
			f.SetUint(f.Uint() + 1)
		}
		if opens(k, sealed, moved) {
			t.Errorf("opens with another %s", reflect.TypeFor[emailprovider.Binding]().Field(i).Name)
		}
	}
	shifted := here
	shifted.Host, shifted.User = "h:25u", ""
	if opens(k, sealed, shifted) {
		t.Error("opens when text moves from one field to the next")
	}
}

func TestDamagedCiphertextDoesNotOpen(t *testing.T) {
	k, _ := create(t)
	sealed := mustSeal(t, k)
	for i := range sealed.Ciphertext {
		damaged := emailprovider.Sealed{KeyID: sealed.KeyID, Ciphertext: append([]byte(nil), sealed.Ciphertext...)}
		damaged.Ciphertext[i] ^= 1
		if opens(k, damaged, here) {
			t.Fatalf("opens with byte %d changed", i)
		}
	}
	for n := range sealed.Ciphertext {
		if opens(k, emailprovider.Sealed{Ciphertext: sealed.Ciphertext[:n]}, here) {
			t.Fatalf("opens when cut to %d bytes", n)
		}
	}
}

func TestRotate(t *testing.T) {
	k, file := create(t)
	before := mustSeal(t, k)
	primary, err := k.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	after := mustSeal(t, k)
	if after.KeyID != primary || before.KeyID == primary {
		t.Errorf("sealed with %d before and %d after, primary %d", before.KeyID, after.KeyID, primary)
	}
	again, err := seal.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*seal.Keyset{"same": k, "loaded": again} {
		if !opens(k, before, here) || !opens(k, after, here) {
			t.Errorf("%s keyset does not open all", name)
		}
	}
}

// TestRotateWithoutDisk holds a key that could not be written to sealing nothing.
func TestRotateWithoutDisk(t *testing.T) {
	k, file := create(t)
	before := mustSeal(t, k)
	other, err := seal.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Rotate(); err != nil { // Nor does one of which it is not known whether it will stay.
		t.Fatal(err)
	}
	for full, want := range map[error]fault.Kind{
		syscall.ENOSPC: fault.ResourceExhausted, syscall.EDQUOT: fault.ResourceExhausted, syscall.EROFS: fault.Unavailable,
	} {
		file.full = &fs.PathError{Op: "write", Path: "keyset", Err: full}
		if _, err := k.Rotate(); !errors.Is(err, full) || fault.KindOf(err) != want || !strings.Contains(err.Error(), "MAILKEEP-STORE") {
			t.Errorf("Rotate: %v, want kind %d, MAILKEEP-STORE", err, want)
		}
		if after := mustSeal(t, k); after.KeyID != before.KeyID {
			t.Error("seals with a key that is not in the file")
		}
	}
}

// hanging is a File whose disk does not answer until it is told to.
type hanging struct {
	*memory
	writing, answer chan struct{}
}

func (h hanging) Write(data []byte) error {
	close(h.writing)
	<-h.answer
	return h.memory.Write(data)
}

// TestRotateOnADiskThatHangs wants secrets to be sealed and opened meanwhile.
func TestRotateOnADiskThatHangs(t *testing.T) {
	_, file := create(t)
	h := hanging{file, make(chan struct{}), make(chan struct{})}
	k, err := seal.Load(h)
	if err != nil {
		t.Fatal(err)
	}
	rotated := make(chan error)
	go func() {
		_, err := k.Rotate()
		rotated <- err
	}()
	<-h.writing
	if !opens(k, mustSeal(t, k), here) {
		t.Error("does not open")
	}
	close(h.answer)
	if err := <-rotated; err != nil {
		t.Error(err)
	}
}

// TestSharedFile has two services on one keyset: what either has sealed opens in both, whoever adds keys.
func TestSharedFile(t *testing.T) {
	first, file := create(t)
	second, err := seal.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	before := mustSeal(t, second)
	if _, err := first.Rotate(); err != nil {
		t.Fatal(err)
	}
	rotated := mustSeal(t, first)
	if !opens(second, rotated, here) {
		t.Error("the second service does not open what was sealed with the new key of the first")
	}
	if after := mustSeal(t, second); after.KeyID != rotated.KeyID {
		t.Error("the second service goes on sealing with the old key")
	}
	if _, err := second.Rotate(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Rotate(); err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*seal.Keyset{"first": first, "second": second} {
		if !opens(k, before, here) || !opens(k, rotated, here) || !opens(k, mustSeal(t, second), here) || !opens(k, mustSeal(t, first), here) {
			t.Errorf("the %s service does not open all", name)
		}
	}
}

// TestRotateAnotherFile has the file lose a key that is in use: nothing is written over it.
func TestRotateAnotherFile(t *testing.T) {
	k, file := create(t)
	sealed := mustSeal(t, k)
	_, other := create(t)
	for name, data := range map[string][]byte{"gone": nil, "another": other.data, "junk": []byte("{}")} {
		file.data = data
		if _, err := k.Rotate(); fault.KindOf(err) != fault.FailedPrecondition {
			t.Errorf("rotating a file that is %s: %v", name, err)
		}
		if !bytes.Equal(file.data, data) {
			t.Errorf("a file that is %s was written over", name)
		}
	}
	if !opens(k, sealed, here) {
		t.Error("the service lost its own key")
	}
}

// checks is a database.
type checks []emailprovider.Sealed

func (c *checks) KeyChecks(context.Context) ([]emailprovider.Sealed, error) { return *c, nil }

func (c *checks) AddKeyCheck(_ context.Context, check emailprovider.Sealed) error {
	*c = append(*c, check)
	return nil
}

func TestCheck(t *testing.T) {
	var stored checks
	k, file := create(t)
	for range 2 {
		if err := k.Check(t.Context(), &stored); err != nil || len(stored) != 1 {
			t.Fatalf("the first keyset: %v, %d checks", err, len(stored))
		}
	}
	old := file.data
	if _, err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	if err := k.Check(t.Context(), &stored); err != nil || len(stored) != 2 {
		t.Fatalf("after a rotation: %v, %d checks", err, len(stored))
	}
	other, _ := create(t)
	stale, err := seal.Load(&memory{data: old})
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*seal.Keyset{"another keyset": other, "an old copy of the file": stale} {
		if err := k.Check(t.Context(), &stored); !errors.Is(err, seal.ErrOtherKeys) || len(stored) != 2 {
			t.Errorf("%s: %v, %d checks", name, err, len(stored))
		}
	}
}

func TestLoad(t *testing.T) {
	if _, err := seal.Load(&memory{}); !errors.Is(err, seal.ErrNoKeyset) {
		t.Errorf("without a file: %v", err)
	}
	for _, junk := range []string{"", "{}", "not json", `{"primaryKeyId":1,"key":[{"keyData":{"value":"c2VjcmV0"}}]}`} {
		if _, err := seal.Load(&memory{data: []byte(junk)}); err == nil {
			t.Errorf("%q loads", junk)
		}
	}
	for name, template := range map[string]*tinkpb.KeyTemplate{
		"raw": aead.AES256GCMNoPrefixKeyTemplate(), "another cipher": aead.XChaCha20Poly1305KeyTemplate(),
	} {
		handle, err := keyset.NewHandle(template)
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&text)); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.Load(&memory{data: text.Bytes()}); err == nil {
			t.Errorf("a keyset with a key of the kind %q loads", name)
		}
	}
	_, file := create(t)
	other, _ := create(t)
	k, err := seal.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if opens(other, mustSeal(t, k), here) {
		t.Error("another keyset opens it")
	}
}
