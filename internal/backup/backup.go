// Package backup is the file that `mailkeep backup` makes: an SQLite database, as it is; behind it a
// manifest, which says in JSON on one line what the database holds; and at the end a line with the size
// of the database and the SHA-256 of all that stands before. SQLite passes over what is behind a
// database, so any SQLite opens a backup to look into it.
//
// A digest in a file beside the backup would get lost, and one in a table could not be that of the whole
// file. It tells a whole backup from one that was cut off or damaged. It is no proof against somebody
// who can write to the file.
package backup

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Contents is what a database holds, in numbers.
type Contents struct {
	Schema    int64             `json:"schema"`    // version of the schema
	Sequences map[string]uint64 `json:"sequences"` // of the last change, by instance
	Providers uint64            `json:"providers"`
	Mails     uint64            `json:"mails"`
	Open      uint64            `json:"open"` // mails that were queued or being sent
	Keys      []uint32          `json:"keys"` // ids of the keys that have sealed something in it
}

// Manifest is what a backup says of itself.
type Manifest struct {
	Made time.Time `json:"made"` // what was acknowledged before is in the backup
	Contents
}

// The last line begins with the format and its version, and has this length, in every version.
const (
	format   = "mailkeep-backup"
	version  = "1"
	lastLine = len(format) + 1 + len(version) + 1 + 20 + 1 + 64 + 1

	maxManifest = 1 << 20
)

// end is the last line of a backup.
type end struct {
	size   int64 // of the database
	digest [32]byte
}

func (e end) String() string {
	return fmt.Sprintf("%s %s %020d %x\n", format, version, e.size, e.digest)
}

var (
	errNoEnd = errors.New("backup: no last line of a backup")
	errNewer = errors.New("backup: a later format")
)

func parseEnd(line string) (e end, err error) {
	words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if len(words) > 1 && words[0] == format && words[1] != version {
		return e, errNewer
	}
	if len(words) != 4 || words[0] != format {
		return e, errNoEnd
	}
	size, err := strconv.ParseInt(words[2], 10, 64)
	digest, err2 := hex.DecodeString(words[3])
	if err != nil || err2 != nil || size <= 0 || copy(e.digest[:], digest) != len(e.digest) {
		return e, errNoEnd
	}
	e.size = size
	if e.String() != line { // one way to write it
		return e, errNoEnd
	}
	return e, nil
}
