package sqlstore

import "testing"

// TestPageSize: new files have the pages that mails need. SQLite passes over the setting in silence when it
// comes late.
func TestPageSize(t *testing.T) {
	var size int
	if err := open(t).reader.QueryRowContext(t.Context(), "PRAGMA page_size").Scan(&size); err != nil || size != 8192 {
		t.Errorf("page_size %d, %v, want 8192", size, err)
	}
}
