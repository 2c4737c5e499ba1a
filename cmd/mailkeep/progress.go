package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress shows how far something has come, on one line of a terminal, if it takes long.
type progress struct {
	to io.Writer // nil for nothing

	mu          sync.Mutex
	step        string
	done, total int64

	stop, stopped chan struct{}
}

const (
	progressAfter = time.Second
	progressEvery = 200 * time.Millisecond
	eraseLine     = "\r\x1b[K"
)

// newProgress shows something if to is a terminal, until it is cleared.
func newProgress(to io.Writer) *progress {
	if f, ok := to.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		to = nil
	}
	return startProgress(to)
}

func startProgress(to io.Writer) *progress {
	p := &progress{to: to, stop: make(chan struct{}), stopped: make(chan struct{})}
	go p.draw()
	return p
}

// show says which step is under way, and its part of the whole if that is known.
func (p *progress) show(step string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step, p.done, p.total = step, done, total
}

func (p *progress) draw() {
	defer close(p.stopped)
	if p.to == nil {
		return
	}
	next := time.NewTimer(progressAfter)
	defer next.Stop()
	for shown := false; ; shown = true {
		select {
		case <-next.C:
			fmt.Fprint(p.to, eraseLine+p.line())
			next.Reset(progressEvery)
		case <-p.stop:
			if shown {
				fmt.Fprint(p.to, eraseLine)
			}
			return
		}
	}
}

func (p *progress) line() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.total == 0 {
		return p.step + " …"
	}
	share := float64(p.done) / float64(p.total)
	return fmt.Sprintf("[%-*s] %3.0f%% %s", len(stripes), stripes[:int(share*float64(len(stripes)))], 100*share, p.step)
}

const stripes = "##############################"

// clear takes what is shown away.
func (p *progress) clear() {
	close(p.stop)
	<-p.stopped
}
