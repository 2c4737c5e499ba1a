package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

const (
	// leastRotations is how many a sample has at least.
	leastRotations = 5
	// nextMail is how long after one mail there is another, as long as it is not the replica in question
	// that sends.
	nextMail = 5 * time.Millisecond
)

// rotates is a cell of the time from the acknowledgement of a rotation by one replica to the first AUTH
// with it by another, or by itself if it is the only one: the median of as many as there is time for.
func (b *bed) rotates(name string, on *backing, replicas int) *cell {
	return &cell{name: name, unit: "ms", open: func() (measure, error) {
		return func(ctx context.Context) (sample, error) {
			heard := &hearing{first: map[string]time.Time{}, news: make(chan struct{}, 1)}
			to := sinkOptions{pipelining: true, hears: heard.hear}.open
			return taken(to, func(ctx context.Context, address string) (s sample, sent int, err error) {
				err = b.play(ctx, stage{
					on: on, replicas: replicas, address: address, auth: true,
					while: func(ctx context.Context, first *service) error {
						r := rotation{first: first, last: first.replicas[replicas-1], heard: heard}
						s.value, err = r.median(ctx, b.length)
						sent = r.sent
						return errors.Join(err, first.delivers(ctx, sent))
					},
				})
				return s, sent, err
			})(ctx)
		}, nil
	}}
}

// rotation is of a password that one replica stores and another uses.
type rotation struct {
	first, last *service
	heard       *hearing
	sent        int // mails
}

// median returns the milliseconds of the median rotation.
func (r *rotation) median(ctx context.Context, length time.Duration) (float64, error) {
	var all []float64
	for end := time.Now().Add(length); len(all) < leastRotations || time.Now().Before(end); {
		took, err := r.rotate(ctx, fmt.Sprintf("%s %d", password, r.sent))
		if err != nil {
			return 0, err
		}
		all = append(all, float64(took)/float64(time.Millisecond))
	}
	_, median, _ := quartiles(all)
	return median, nil
}

// rotate stores a new password and sends mails until it is used.
func (r *rotation) rotate(ctx context.Context, password string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	to := r.first.all[0]
	request, err := setPassword("http://"+to.address, to.provider, password)
	if err != nil {
		return 0, err
	}
	if err := check(request, "{"); err != nil {
		return 0, err
	}
	acknowledged := time.Now()
	for {
		if _, err := r.last.Messages.Send(ctx, instance.Default, draft()); err != nil {
			return 0, err
		}
		r.sent++
		at, err := r.heard.wait(ctx, r.last.hello, password, nextMail)
		if err != nil || !at.IsZero() {
			return max(0, at.Sub(acknowledged)), err // a mail from before may have been quicker than the acknowledgement
		}
	}
}

// hearing is when a mail server has first heard each AUTH.
type hearing struct {
	mu    sync.Mutex
	first map[string]time.Time
	news  chan struct{} // has something after each AUTH
}

// hear is told what a client says in EHLO and AUTH.
func (h *hearing) hear(hello, login string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if key := hello + login; h.first[key].IsZero() {
		h.first[key] = time.Now()
	}
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// wait returns when the client first used the password, or the zero time if it has not within the limit.
func (h *hearing) wait(ctx context.Context, hello, password string, limit time.Duration) (time.Time, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	key := "EHLO " + hello + "\r\n" + plainLogin(password)
	for {
		h.mu.Lock()
		at := h.first[key]
		h.mu.Unlock()
		if !at.IsZero() {
			return at, nil
		}
		select {
		case <-h.news:
		case <-timer.C:
			return at, nil
		case <-ctx.Done():
			return at, ctx.Err()
		}
	}
}

// delivers waits until so many mails are delivered.
func (s *service) delivers(ctx context.Context, want int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		n, err := s.mails(ctx, outbox.Delivered)
		if err != nil || n == want {
			return err
		}
		if wait(ctx, nextMail) != nil {
			return fmt.Errorf("%d of %d mails were delivered within %s", n, want, patience)
		}
	}
}
