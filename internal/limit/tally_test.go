package limit

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailkeep/mailkeep/internal/fault"
)

// shelf is what a Tally counts.
type shelf struct {
	n, counts int
	err       error
	wait      chan struct{} // that a count waits for, unless nil
}

func (s *shelf) count(context.Context, string) (int, error) {
	s.counts++
	n := s.n
	if s.wait != nil {
		<-s.wait
	}
	return n, s.err
}

func mails(l Limits) int { return l.OpenMails }

// TestTally: exact where nothing goes by itself, and counted rarely.
func TestTally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{n: 10}
		tally := NewTally(Everybody{OpenMails: 1000}, "mails", mails, s.count, time.Now)
		add := func() error {
			err := tally.Add(t.Context(), "i")
			if err == nil {
				s.n++
			}
			return err
		}
		for s.n < 1000 {
			if err := add(); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			if err := add(); fault.KindOf(err) != fault.ResourceExhausted || !strings.Contains(err.Error(), "the 1000 mails") {
				t.Errorf("one too many: %v", err)
			}
		}
		if s.counts != 1 {
			t.Errorf("counted %d times", s.counts)
		}
		s.n = 999 // one was sent
		if add() == nil {
			t.Error("counted anew at once")
		}
		time.Sleep(recountFull)
		if err := add(); err != nil {
			t.Errorf("when there is room again: %v", err)
		}
		if add() == nil {
			t.Error("there was room for one only")
		}
		s.n = 2000 // by another process
		time.Sleep(recountEver)
		if add() == nil {
			t.Error("what other processes add is not seen")
		}
		s.err = errors.New("down")
		time.Sleep(recountEver)
		if err := add(); !errors.Is(err, s.err) {
			t.Errorf("when it can't be counted: %v", err)
		}
	})
}

// TestTallyGoesOn: nobody waits for a count but who makes it, and nothing is missed that is added meanwhile.
func TestTallyGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{n: 5, wait: make(chan struct{})}
		tally := NewTally(Everybody{OpenMails: 8}, "mails", mails, s.count, time.Now)
		first := make(chan error, 1)
		go func() { first <- tally.Add(t.Context(), "i") }()
		synctest.Wait()
		if err := tally.Add(t.Context(), "i"); err != nil {
			t.Error(err)
		}
		close(s.wait)
		if err := <-first; err != nil {
			t.Error(err)
		}
		if err := tally.Add(t.Context(), "i"); err != nil {
			t.Error(err)
		}
		if tally.Add(t.Context(), "i") == nil {
			t.Error("5 and 3 leave room in 8")
		}
	})
}

// TestRoom: what is counted each time, and what has no bound and is not counted.
func TestRoom(t *testing.T) {
	s := &shelf{n: 2}
	room := Room(Everybody{Providers: 3}, "providers", func(l Limits) int { return l.Providers }, s.count)
	if err := room(t.Context(), "i"); err != nil {
		t.Error(err)
	}
	s.n++
	var told *fault.Error
	if err := room(t.Context(), "i"); !errors.As(err, &told) || told.Retry == 0 || told.Text != "the instance has the 3 providers that it may" {
		t.Errorf("one too many: %v", err)
	}
	free := Room(Everybody{}, "providers", func(l Limits) int { return l.Providers }, s.count)
	if err := free(t.Context(), "i"); err != nil || s.counts != 2 {
		t.Errorf("without a bound: %v, counted %d times", err, s.counts)
	}
}

// TestOverrides: an instance's own bounds win over those of everybody.
func TestOverrides(t *testing.T) {
	o := Overrides{Everybody{1, 2, 3, 4, 5}, func(instance string) (Limits, error) {
		if instance == "own" {
			return Limits{Streams: 20, Tokens: 50}, nil
		}
		return Limits{}, nil
	}}
	for instance, want := range map[string]Limits{"own": {1, 20, 3, 4, 50}, "other": {1, 2, 3, 4, 5}} {
		if got, err := o.Limits(t.Context(), instance); got != want || err != nil {
			t.Errorf("%s: %+v, %v", instance, got, err)
		}
	}
}
