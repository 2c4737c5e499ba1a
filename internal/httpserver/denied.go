package httpserver

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/mailkeep/mailkeep/internal/rpc"
)

// Bounds of the log of denied calls: whoever guesses tokens must neither fill the disk nor hide among the
// lines. All are counted.
const (
	deniedBurst  = 10               // lines for each caller at first
	deniedEvery  = 10 * time.Second // and then one in so long
	deniedTokens = 1000             // callers and addresses that are told apart
)

// deniedLog says which denied calls get their line.
type deniedLog struct {
	mu      sync.Mutex
	callers map[string]*deniedCaller
}

// deniedCaller is who was denied.
type deniedCaller struct {
	lines      int       // that are left
	since      time.Time // when lines were last added
	suppressed int       // calls without a line since the last one that had one
}

// isDenied reports whether a call was refused for who made it.
func isDenied(call *rpc.Call) bool {
	return call.Code == "unauthenticated" || call.Code == "permission_denied"
}

// deniedKey is whom a denied call is counted for: the token if it is known, or else the address.
func deniedKey(call *rpc.Call, r *http.Request) string {
	if call.Caller.TokenID != "" {
		return call.Caller.Instance + "/" + call.Caller.TokenID
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// line reports whether a denied call gets a line, and how many before it got none.
func (d *deniedLog) line(key string, now time.Time) (suppressed int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.caller(key, now)
	if more := int(now.Sub(c.since) / deniedEvery); more > 0 {
		c.lines = min(c.lines+more, deniedBurst)
		c.since = c.since.Add(time.Duration(more) * deniedEvery)
	}
	if c.lines == 0 {
		c.suppressed++
		return 0, false
	}
	c.lines--
	suppressed, c.suppressed = c.suppressed, 0
	return suppressed, true
}

// caller returns what is known of a caller. When there are too many, those that come new share one.
func (d *deniedLog) caller(key string, now time.Time) *deniedCaller {
	if d.callers == nil {
		d.callers = map[string]*deniedCaller{}
	}
	if c := d.callers[key]; c != nil {
		return c
	}
	if len(d.callers) >= deniedTokens {
		d.forget(now)
	}
	if len(d.callers) >= deniedTokens {
		key = ""
	}
	c := d.callers[key]
	if c == nil {
		c = &deniedCaller{lines: deniedBurst, since: now}
		d.callers[key] = c
	}
	return c
}

// forget drops those that have all their lines again.
func (d *deniedLog) forget(now time.Time) {
	for key, c := range d.callers {
		if c.suppressed == 0 && now.Sub(c.since) >= deniedBurst*deniedEvery {
			delete(d.callers, key)
		}
	}
}
