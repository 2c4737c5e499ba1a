package sqlstore

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// patrolInterval is how often a process with several hosts looks at all of them.
	patrolInterval = 2 * time.Second
	// glance is how long a survey that has found a primary waits for the other hosts.
	glance = time.Second
	// surveyPause is between the beginnings of surveys: while there is no primary, servers have better
	// things to do than to tell everybody so.
	surveyPause = 200 * time.Millisecond
	// mostLookers is how many share a survey.
	mostLookers = 1024
)

// survey looks at all hosts at once and finds the primary that is to be used. Who asks meanwhile waits for
// the next one, which all of them share.
type survey struct {
	hosts   []*pgconn.Config // one each
	timeout time.Duration    // of the look at a host
	admit   func(identity) error
	log     *slog.Logger

	queue queue[*looker]
	ctx   context.Context // ends when the database is closed
	stop  context.CancelFunc
	over  sync.WaitGroup // of the patrol

	begun time.Time
	said  map[*pgconn.Config]string // why a host is not used
}

// looker is somebody who wants to know the primary.
type looker struct{ primary *pgconn.Config }

func (s *survey) init(hosts []*pgconn.Config, timeout time.Duration, admit func(identity) error, log *slog.Logger) {
	s.hosts, s.timeout, s.admit, s.log = hosts, timeout, admit, log
	s.said = map[*pgconn.Config]string{}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.queue.run = s.run
}

// primary returns the host of the primary, as a survey finds it that begins after the call.
func (s *survey) primary(ctx context.Context) (*pgconn.Config, error) {
	ask := new(looker)
	patience := 2 * (surveyPause + s.timeout + glance) // for the one under way, and one of our own
	err := s.queue.await(ctx, patience, &job[*looker]{ask: ask})
	if errors.Is(err, errOutcomeUnknown) {
		return nil, errBusy // it is nothing that can be unknown
	}
	return ask.primary, err
}

// run makes a survey for all who wait for one.
func (s *survey) run() {
	pause := time.NewTimer(time.Until(s.begun.Add(surveyPause)))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-s.ctx.Done():
	}
	s.begun = time.Now()
	jobs := s.queue.takeBegun(mostLookers)
	primary, err := s.look()
	for _, j := range jobs {
		j.ask.primary = primary
		j.finish(err)
	}
}

// sighting is what a look at a host has shown.
type sighting struct {
	host     *pgconn.Config
	timeline uint32
	err      error // why it is not the primary
}

// look looks at every host. It returns when all have answered, or soon after a primary has. A primary that
// another one has taken over from may have been the first to answer.
func (s *survey) look() (*pgconn.Config, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.timeout)
	defer cancel()
	seen := make(chan sighting, len(s.hosts))
	for _, host := range s.hosts {
		go func() { seen <- s.lookAt(ctx, host) }()
	}
	enough := time.NewTimer(glance)
	defer enough.Stop()
	var best sighting
	var reasons []error
	for left := len(s.hosts); left > 0; left-- {
		late := enough.C
		if best.host == nil {
			late = nil
		}
		select {
		case one := <-seen:
			s.tell(one)
			switch {
			case one.err != nil:
				reasons = append(reasons, one.err)
			case one.timeline >= best.timeline:
				best = one
			}
		case <-late:
			return best.host, nil
		}
	}
	if best.host == nil {
		return nil, errors.Join(reasons...)
	}
	return best.host, nil
}

// lookAt takes note of a host that is a primary.
func (s *survey) lookAt(ctx context.Context, host *pgconn.Config) sighting {
	conn, err := pgconn.ConnectConfig(ctx, host)
	if err != nil {
		return sighting{host: host, err: err}
	}
	defer func() { _ = conn.Close(ctx) }() // It is not used again.
	id, err := identify(ctx, conn, "")
	if err == nil {
		err = s.admit(id)
	}
	return sighting{host, id.timeline, err}
}

// tell logs why a host is not used: one that is refused, not one that can't be reached.
func (s *survey) tell(one sighting) {
	why := ""
	var refused *refusal
	if errors.As(one.err, &refused) {
		why = refused.why
	}
	if why != "" && why != standby && why != s.said[one.host] {
		s.log.Warn("a server of --database-url is not used", "host", one.host.Host, "port", one.host.Port, "why", why)
	}
	s.said[one.host] = why
}

// patrol surveys the hosts from time to time: a primary that hung while another took over from it
// must not be believed when it goes on.
func (s *survey) patrol() {
	if len(s.hosts) < 2 {
		return
	}
	s.over.Go(func() {
		ticker := time.NewTicker(patrolInterval)
		defer ticker.Stop()
		for {
			select {
			case <-s.ctx.Done():
				return
			case <-ticker.C:
				_, _ = s.primary(s.ctx) // what it has seen is noted
			}
		}
	})
}

func (s *survey) close() {
	s.stop()
	s.over.Wait()
}

// hostsOf returns a configuration for each host of c, with every way to connect to it.
func hostsOf(c *pgx.ConnConfig) (hosts []*pgconn.Config) {
	byAddress := map[string]*pgconn.Config{}
	for _, way := range waysOf(&c.Config) {
		address := net.JoinHostPort(way.Host, strconv.Itoa(int(way.Port)))
		if one, ok := byAddress[address]; ok {
			one.Fallbacks = append(one.Fallbacks, way)
			continue
		}
		one := c.Config.Copy()
		one.Host, one.Port, one.TLSConfig, one.Fallbacks = way.Host, way.Port, way.TLSConfig, nil
		one.ValidateConnect, one.AfterConnect = nil, nil
		byAddress[address] = one
		hosts = append(hosts, one)
	}
	return hosts
}

// waysOf lists in which order hosts are tried, and each with TLS or without.
func waysOf(c *pgconn.Config) []*pgconn.FallbackConfig {
	return append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
}

// prefer has the primary tried first.
func prefer(c, primary *pgconn.Config) {
	var first, rest []*pgconn.FallbackConfig
	for _, way := range waysOf(c) {
		if way.Host == primary.Host && way.Port == primary.Port {
			first = append(first, way)
		} else {
			rest = append(rest, way)
		}
	}
	c.Host, c.Port, c.TLSConfig = first[0].Host, first[0].Port, first[0].TLSConfig
	c.Fallbacks = append(first[1:], rest...)
}
