package audit

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

type oneKey struct{}

var theKey = bytes.Repeat([]byte{1}, 32)

func (oneKey) AuditKey(id uint32) (uint32, []byte, error) {
	if id > 1 {
		return 0, nil, errors.New("no such key")
	}
	return 1, theKey, nil
}

func (oneKey) AuditKeys() []uint32 { return []uint32{1} }

// TestEverythingIsInTheTag changes each field of a row in turn, by reflection, so that one that is added later
// and forgotten in the tag fails here. The sequence comes in later, and the chain is what comes of it.
func TestEverythingIsInTheTag(t *testing.T) {
	c := New(oneKey{})
	row := Row{Type: "t", Name: "ab", Protocol: "c"}
	want, err := c.Tag(&row)
	if err != nil {
		t.Fatal(err)
	}
	for i := range reflect.TypeFor[Row]().NumField() {
		changed := row
		switch f := reflect.ValueOf(&changed).Elem().Field(i); f.Kind() {
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Int64:
			f.SetInt(f.Int() + 1)
		default:
			continue
		}
		if got, _ := c.Tag(&changed); got == want {
			t.Errorf("the tag does not depend on %s", reflect.TypeFor[Row]().Field(i).Name)
		}
	}
	if got, _ := c.Tag(&Row{Type: "t", Name: "a", Protocol: "bc"}); got == want {
		t.Error("the tag does not tell where a field ends")
	}
	if first, other := mustMac(want, 1), mustMac(want, 2); first == other {
		t.Error("the mac does not depend on the sequence")
	}
	if base, _ := c.Base("default", 1); base == mustMac(want, 1) {
		t.Error("the beginning of a chain is an event's")
	}
}

func mustMac(t Tag, sequence uint64) Mac {
	_, mac := t.at(sequence)
	return mac
}
