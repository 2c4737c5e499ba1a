package app_test

import "sync"

// gate lets everyone wait while it is shut.
type gate struct {
	mu     sync.Mutex
	shutUp chan struct{} // closed when it opens; nil while it is open
	held   int           // who wait
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shutUp == nil {
		g.shutUp = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shutUp != nil {
		close(g.shutUp)
		g.shutUp = nil
	}
}

func (g *gate) closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shutUp != nil
}

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}

// wait waits while it is shut.
func (g *gate) wait() {
	g.mu.Lock()
	shut := g.shutUp
	if shut == nil {
		g.mu.Unlock()
		return
	}
	g.held++
	g.mu.Unlock()
	<-shut
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held--
}
