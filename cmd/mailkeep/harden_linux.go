package main

import (
	"errors"

	"golang.org/x/sys/unix"
)

// harden keeps the memory of the process, which has secrets in it, out of core dumps and away from
// other processes of the same user.
func harden() error {
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0),
	)
}
