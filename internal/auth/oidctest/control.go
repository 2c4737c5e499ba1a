package oidctest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Control tells an Issuer, in whatever process, what to do.
type Control struct{ URL string }

// order is what is told. It is also the answer.
type order struct {
	Do        string         `json:"do,omitempty"`
	Kind      string         `json:"kind,omitempty"`
	KeyID     string         `json:"key_id,omitempty"`
	Algorithm string         `json:"algorithm,omitempty"`
	Foreign   bool           `json:"foreign,omitempty"`
	Header    map[string]any `json:"header,omitempty"`
	Claims    map[string]any `json:"claims,omitempty"`
	Token     string         `json:"token,omitempty"`
	Down      bool           `json:"down,omitempty"`
	Counts    Counts         `json:"counts"`
}

// Forgery is how a token differs from what an issuer would make.
type Forgery struct {
	KeyID     string         // of the key that signs; the newest one by default
	Algorithm string         // that signs; the key's by default
	Foreign   bool           // sign with a key of the same kind that nobody has published
	Header    map[string]any // members to add or to replace; nil values are left out
}

// Claims are those of a good token for the audience, for an hour, with more that replace them; nil values
// are left out.
func (c Control) Claims(audience string, more map[string]any) map[string]any {
	now := time.Now()
	return merge(map[string]any{
		"iss": c.URL, "sub": "subject-1", "aud": []string{"other", audience}, "jti": "id-1",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}, more)
}

// JWT returns a token that the newest key signs.
func (c Control) JWT(claims map[string]any) string { return c.Forge(Forgery{}, claims) }

// Forge returns a token made in another way. Introspection knows it too.
func (c Control) Forge(f Forgery, claims map[string]any) string {
	return c.tell(order{Do: "sign", KeyID: f.KeyID, Algorithm: f.Algorithm, Foreign: f.Foreign, Header: f.Header, Claims: claims}).Token
}

// Opaque returns a token that only introspection knows.
func (c Control) Opaque(claims map[string]any) string {
	return c.tell(order{Do: "opaque", Claims: claims}).Token
}

// Revoke makes introspection say that a token is not active.
func (c Control) Revoke(token string) { c.tell(order{Do: "revoke", Token: token}) }

// Rotate publishes a new key and signs with it from now on.
func (c Control) Rotate(kind string) (id string) {
	return c.tell(order{Do: "rotate", Kind: kind}).KeyID
}

// Withdraw unpublishes a key.
func (c Control) Withdraw(id string) { c.tell(order{Do: "withdraw", KeyID: id}) }

// Move puts the keys at another URL.
func (c Control) Move() { c.tell(order{Do: "move"}) }

// SetDown makes the issuer answer 503 to all but its Control.
func (c Control) SetDown(down bool) { c.tell(order{Do: "down", Down: down}) }

// Counts returns how often the issuer was asked.
func (c Control) Counts() Counts { return c.tell(order{Do: "counts"}).Counts }

// tell panics on a failure, which is a broken test.
func (c Control) tell(o order) (answer order) {
	body, err := json.Marshal(o)
	if err == nil {
		err = c.post(body, &answer)
	}
	if err != nil {
		panic(fmt.Errorf("oidctest: %s: %w", o.Do, err))
	}
	return answer
}

func (c Control) post(body []byte, answer *order) error {
	resp, err := http.Post(c.URL+"/control", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(string(data))
	}
	return json.Unmarshal(data, answer)
}

// control does what a Control tells.
func (i *Issuer) control(w http.ResponseWriter, r *http.Request) {
	var o order
	d := json.NewDecoder(r.Body)
	d.UseNumber()
	if err := d.Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := i.do(o)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(w, answer)
}

func (i *Issuer) do(o order) (answer order, err error) {
	switch o.Do {
	case "sign":
		answer.Token, err = i.sign(o)
	case "opaque":
		answer.Token = i.opaque(o.Claims)
	case "revoke":
		i.revoke(o.Token)
	case "rotate":
		answer.KeyID, err = i.add(o.Kind)
	case "withdraw":
		i.withdraw(o.KeyID)
	case "move":
		i.mu.Lock()
		defer i.mu.Unlock()
		i.place++
	case "down":
		i.mu.Lock()
		defer i.mu.Unlock()
		i.down = o.Down
	case "counts":
		i.mu.Lock()
		defer i.mu.Unlock()
		answer.Counts = i.seen
	default:
		err = fmt.Errorf("no order %q", o.Do)
	}
	return answer, err
}

func (i *Issuer) sign(o order) (string, error) {
	k, err := i.key(o.KeyID)
	if err != nil {
		return "", err
	}
	header := map[string]any{"alg": k.algorithm(), "kid": k.id, "typ": "JWT"}
	algorithm := o.Algorithm
	if algorithm == "" {
		algorithm = k.algorithm()
	}
	header["alg"] = algorithm
	if o.Foreign {
		kind := EC
		if k.rsa != nil {
			kind = RSA
		}
		if k, err = newKey(k.id, kind); err != nil {
			return "", err
		}
		if o.Header["jwk"] == true {
			o.Header["jwk"] = k.jwk()
		}
	}
	token, err := k.sign(algorithm, merge(header, o.Header), o.Claims)
	if err == nil {
		i.issue(token, o.Claims)
	}
	return token, err
}

// key returns the key of an id, or the newest.
func (i *Issuer) key(id string) (*key, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n := len(i.keys) - 1; n >= 0; n-- {
		if id == "" || i.keys[n].id == id {
			return i.keys[n], nil
		}
	}
	return nil, fmt.Errorf("no key %q", id)
}

func merge(base, more map[string]any) map[string]any {
	for name, value := range more {
		if value == nil {
			delete(base, name)
		} else {
			base[name] = value
		}
	}
	return base
}
