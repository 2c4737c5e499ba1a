package sqlstore

import (
	"database/sql/driver"
	"testing"
)

// TestRawRow: what does not fit is refused, as database/sql does.
func TestRawRow(t *testing.T) {
	var (
		long  int64
		small uint32
		size  int
		large uint64
		truth bool
		text  string
		bytes []byte
	)
	for _, c := range []struct {
		value driver.Value
		to    any
		fits  bool
	}{
		{int64(1), &long, true}, {int64(2), &small, true}, {int64(3), &size, true}, {int64(4), &large, true}, {int64(1), &truth, true},
		{"s", &text, true}, {"b", &bytes, true}, {[]byte("b"), &bytes, true}, {nil, &bytes, true},
		{int64(1 << 32), new(uint32), false}, {int64(-1), new(uint32), false}, {int64(-1), new(uint64), false}, {int64(1), &text, false},
		{"s", &long, false}, {nil, &text, false}, {nil, &long, false}, {[]byte("b"), &text, false}, {1.5, &long, false},
	} {
		if err := (rawRow{c.value}).Scan(c.to); (err == nil) != c.fits {
			t.Errorf("a %T in a %T: %v", c.value, c.to, err)
		}
	}
	if long != 1 || small != 2 || size != 3 || large != 4 || !truth || text != "s" || bytes != nil {
		t.Error(long, small, size, large, truth, text, bytes)
	}
	if err := (rawRow{int64(1), int64(2)}).Scan(&long); err == nil {
		t.Error("two columns fit one variable")
	}
}
