package main

import (
	"testing"
	"time"
)

// TestHearing has clients that use another password, and another client that uses the right one.
func TestHearing(t *testing.T) {
	h := &hearing{first: map[string]time.Time{}, news: make(chan struct{}, 1)}
	s := openSink(t, sinkOptions{hears: h.hear})
	auth := func(hello, password string) {
		c := talkTo(t, s.address())
		c.say("EHLO "+hello+"\r\n", "250")
		c.say(plainLogin(password), "235")
		c.say("QUIT\r\n", "221")
	}
	auth("replica1.example.com", "new")
	auth("replica2.example.com", "old")
	if at, err := h.wait(t.Context(), "replica2.example.com", "new", time.Millisecond); err != nil || !at.IsZero() {
		t.Errorf("heard at %v (%v) what was not said", at, err)
	}
	before := time.Now()
	auth("replica2.example.com", "new")
	after := time.Now()
	auth("replica2.example.com", "new")
	at, err := h.wait(t.Context(), "replica2.example.com", "new", patience)
	if err != nil || at.Before(before) || at.After(after) {
		t.Errorf("heard at %v (%v), want from %v to %v", at, err, before, after)
	}
	wantTaken(t, s, 0)
}
