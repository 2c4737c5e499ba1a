package seal_test

import (
	"bytes"
	"testing"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/seal"
)

// FuzzOpen: a sealed value opens as it is, for what it belongs to; with any change to either, by exclusive
// or, by cutting or by something behind it, it does not.
func FuzzOpen(f *testing.F) {
	k, err := seal.Create(&memory{})
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := k.Seal(plain, here)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, 1000, []byte{}, "default", "1", "password", uint64(1), "h:25", "u", "https://t", "c")
	f.Add([]byte{0, 0, 0, 0, 1}, 1000, []byte{}, "default", "1", "password", uint64(1), "h:25", "u", "https://t", "c")
	f.Add([]byte{}, 4, []byte{}, "default", "1", "password", uint64(1), "h:25", "u", "https://t", "c")
	f.Add([]byte{}, 0, []byte("\x01\x00\x00\x00\x00"), "default", "1", "password", uint64(1), "h:25", "u", "https://t", "c")
	f.Add([]byte{}, 1000, []byte{0}, "defaul", "t1", "password", uint64(2), "h:25u", "", "https://tc", "")
	f.Fuzz(func(t *testing.T, xor []byte, cut int, behind []byte, instance, provider, field string, version uint64, host, user, endpoint, client string) {
		changed := bytes.Clone(sealed.Ciphertext)
		for i := range min(len(xor), len(changed)) {
			changed[i] ^= xor[i]
		}
		if cut >= 0 && cut < len(changed) {
			changed = changed[:cut]
		}
		changed = append(changed, behind...)
		to := emailprovider.Binding{
			Instance: instance, Provider: provider, Field: field, Version: version, Host: host, User: user, TokenEndpoint: endpoint, ClientID: client,
		}
		same := bytes.Equal(changed, sealed.Ciphertext) && to == here
		got, err := k.Open(emailprovider.Sealed{KeyID: sealed.KeyID, Ciphertext: changed}, to)
		if same != (err == nil) || same && got.Reveal() != plain.Reveal() || !same && !got.Empty() {
			t.Errorf("changed %t, opened %t: %v", !same, err == nil, err)
		}
	})
}
