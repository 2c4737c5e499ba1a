package smtptest

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Attempt is one AUTH of a session.
type Attempt struct {
	Remote    string // the client's address: the same for all of one session
	Session   int    // number of the connection, from 1 in the order they came
	Mechanism string
	User      string
	Version   int  // of the password that was used, also if it is an old one; 0 for a wrong one
	OK        bool // it was good
	TLS       bool
	At        time.Time
}

// Mail is one mail that the server accepted.
type Mail struct {
	Remote  string // as in Attempt
	Session int    // as in Attempt
	EHLO    string
	From    string
	To      []string
	Data    []byte // the message with CRLF line ends, dots unstuffed
	User    string // who authenticated; empty for nobody
	Version int    // of the password that the session authenticated with; 0 without AUTH
	TLS     bool
	At      time.Time
}

// record is what a server remembers.
type record struct {
	keep int

	mu          sync.Mutex
	changed     chan struct{} // closed and replaced at every mail
	connections int
	numbers     map[string]int // of connections, by the client's address
	resets      int
	received    int
	mails       []Mail
	attempts    []Attempt
}

func newRecord(keep int) *record {
	return &record{keep: keep, changed: make(chan struct{}), numbers: map[string]int{}}
}

// Connections returns how many connections the server has accepted.
func (r *record) Connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.connections
}

// Mails returns the accepted mails that are remembered, oldest first.
func (r *record) Mails() []Mail {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.mails)
}

// Attempts returns the AUTH attempts that are remembered, oldest first.
func (r *record) Attempts() []Attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.attempts)
}

// Resets returns how many RSET commands the server has got.
func (r *record) Resets() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.resets
}

// Wait returns what Mails does once n mails have been accepted, or ctx's error.
func (r *record) Wait(ctx context.Context, n int) ([]Mail, error) {
	for {
		r.mu.Lock()
		received, changed := r.received, r.changed
		r.mu.Unlock()
		if received >= n {
			return r.Mails(), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (r *record) connected(remote string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.connections++
	r.numbers[remote] = r.connections
}

// number returns the number of the latest connection from an address.
func (r *record) number(remote string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.numbers[remote]
}

func (r *record) wasReset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resets++
}

func (r *record) addAttempt(a Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts = lastOf(append(r.attempts, a), r.keep)
}

func (r *record) addMail(m Mail) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mails = lastOf(append(r.mails, m), r.keep)
	r.received++
	close(r.changed)
	r.changed = make(chan struct{})
}

// lastOf returns the last keep elements, or all if keep is 0.
func lastOf[T any](s []T, keep int) []T {
	if keep == 0 || len(s) <= keep {
		return s
	}
	return slices.Clone(s[len(s)-keep:])
}

// accounts are the passwords of users, every version of them.
type accounts struct {
	mu       sync.Mutex
	versions map[string][]string
	oldest   map[string]int // version from which on they are good
}

// add gives a user one more password; with only, no earlier one is good any more.
func (a *accounts) add(user, password string, only bool) (version int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.versions == nil {
		a.versions, a.oldest = map[string][]string{}, map[string]int{}
	}
	a.versions[user] = append(a.versions[user], password)
	version = len(a.versions[user])
	if only {
		a.oldest[user] = version
	}
	return version
}

// find returns the newest version of the user's password that proves right, and whether it is still
// good; 0 if none is.
func (a *accounts) find(user string, proves func(password string) bool) (version int, good bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, password := range slices.Backward(a.versions[user]) {
		if proves(password) {
			return i + 1, i+1 >= a.oldest[user]
		}
	}
	return 0, false
}
