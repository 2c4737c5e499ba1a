package sqlstore

import (
	"database/sql/driver"
	"fmt"
)

// rawRow is a row as a driver hands it out. Unlike one of database/sql it knows only the types that
// rows are scanned into here.
type rawRow []driver.Value

// Scan implements scanner. What it sets is the caller's.
func (r rawRow) Scan(dest ...any) error {
	if len(dest) != len(r) {
		return fmt.Errorf("sqlstore: %d columns for %d variables", len(r), len(dest))
	}
	for i, to := range dest {
		if !assign(to, r[i]) {
			return fmt.Errorf("sqlstore: column %d is a %T, which does not fit a %T", i+1, r[i], to)
		}
	}
	return nil
}

func assign(to any, v driver.Value) bool {
	switch v := v.(type) {
	case int64:
		return assignNumber(to, v)
	case string:
		switch to := to.(type) {
		case *string:
			*to = v
			return true
		case *[]byte:
			*to = []byte(v)
			return true
		}
	case []byte:
		if to, ok := to.(*[]byte); ok {
			*to = v
			return true
		}
	case nil:
		if to, ok := to.(*[]byte); ok {
			*to = nil
			return true
		}
	}
	return false
}

func assignNumber(to any, n int64) bool {
	switch to := to.(type) {
	case *int64:
		*to = n
	case *int:
		*to = int(n)
	case *uint64:
		*to = uint64(n)
		return n >= 0
	case *uint32:
		*to = uint32(n)
		return int64(*to) == n
	case *bool:
		*to = n != 0
	default:
		return false
	}
	return true
}
