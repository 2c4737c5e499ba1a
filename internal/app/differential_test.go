package app_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/method"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// encodings are the five ways in which one request is sent.
var encodings = []string{"rest/h1", "connect+json/h1", "connect+proto/h1", "grpc/h2", "grpcweb/h1"}

// twin is one of the services that start equal and are told the same, each in its own encoding.
type twin struct {
	*service
	encoding string
	send     wire
	proto    wire // for what its own can't express
	state    *sql.DB
	requests requests
	names    map[string]string // of what is random: ids of mails and tokens
	pairs    []string          // the same
	renamer  *strings.Replacer // made of them
	events   int               // that were seen
}

// twins are five services, on one clock that stands still during a call.
type twins struct {
	all   []*twin
	clock atomic.Int64 // seconds since 1970
	calls int
	past  []string // requests, to do again what went wrong
}

// startTwins starts the services; differ alters the configuration of the one with the encoding.
func startTwins(t testing.TB, differ func(encoding string, c *app.Config)) *twins {
	t.Helper()
	ts := &twins{}
	ts.clock.Store(1767225600)
	mails := inbox(t, "p1")
	for _, encoding := range encodings {
		c := config(t)
		c.Now = func() time.Time { return time.Unix(ts.clock.Load(), 0).UTC() }
		c.KeepPrevious = time.Hour
		c.PlaintextAuthHosts = []string{"127.0.0.1"}
		c.UnsafeDurability, c.StoreSettings = true, map[string]string{"synchronous": "OFF"} // no power is cut here
		c.WrapStore = func(s app.Store) app.Store { return idle{s} }
		differ(encoding, &c)
		s := start(t, c)
		var made int
		s.Providers.NewID = func() string { made++; return fmt.Sprintf("%018d", 3e17+made) }
		w := &twin{service: s, encoding: encoding, state: openState(t, c.DataDir), names: map[string]string{}}
		w.send, w.proto = s.breakingWire(encoding), s.breakingWire("connect+proto/h1")
		w.requests.inbox = mails.Addr()
		ts.all = append(ts.all, w)
	}
	return ts
}

// idle is a store whose mails stay where they are: when a worker sends one is not up to a request.
type idle struct{ app.Store }

// Claim implements outbox.Queue.
func (idle) Claim(context.Context, outbox.ClaimRequest) (outbox.Claim, error) {
	return outbox.Claim{}, nil
}

// Expire implements outbox.Queue.
func (idle) Expire(context.Context, string, time.Time, int, bool) ([]outbox.Message, error) {
	return nil, nil
}

// breakingWire is the wire of a name, whose requests say who sends them in the same words and have bytes
// that are not UTF-8 where notUTF8 is.
func (s *service) breakingWire(name string) wire {
	v := http1
	if strings.HasSuffix(name, string(http2)) {
		v = http2
	}
	client := s.client(v)
	next := client.Transport
	client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.Header.Set("User-Agent", "differential")
		r.Header.Del("X-User-Agent")
		if r.Body != nil {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			r.Body = io.NopCloser(bytes.NewReader(bytes.ReplaceAll(body, []byte(notUTF8), []byte(broken))))
			r.GetBody = nil
		}
		r.URL.Path = strings.ReplaceAll(r.URL.Path, notUTF8, broken)
		r.URL.RawPath = strings.ReplaceAll(r.URL.RawPath, notUTF8, "nOt%FF%FEF8x")
		return next.RoundTrip(r)
	})
	for _, w := range s.wiresOf(client, v) {
		if w.name == name {
			return w
		}
	}
	panic("no wire " + name)
}

// unaryMethods is every method that REST has too, which no stream is.
var unaryMethods = func() []*method.Method {
	all := slices.SortedFunc(maps.Values(methods()), func(a, b *method.Method) int {
		return strings.Compare(a.Procedure, b.Procedure)
	})
	return slices.DeleteFunc(all, func(m *method.Method) bool { return m.Streams })
}()

// tell sends what the input makes of a request to every twin and returns how they differ, or nothing.
func (ts *twins) tell(t *testing.T, input []byte) (code connect.Code, differences []string) {
	t.Helper()
	ts.calls++
	ts.clock.Add(1)
	var first effect
	for i, w := range ts.all {
		e := entropy(input)
		m := unaryMethods[int(e.next())%len(unaryMethods)]
		req := w.requests.make(&e, m.Descriptor.Input().FullName())
		if i == 0 {
			ts.past = append(ts.past, fmt.Sprintf("%s %s", m.Name, protojson.Format(req)))
		}
		got := w.tell(t, m, req)
		if i == 0 {
			first = got
			if got.code == connect.CodeInternal || got.code == connect.CodeUnknown {
				differences = append(differences, "a request that is answered "+got.answer)
			}
			continue
		}
		differences = append(differences, first.differs(ts.all[0].encoding, got, w.encoding)...)
	}
	return first.code, differences
}

// effect is all that a request came to.
type effect struct {
	code          connect.Code
	answer        string // with its code, id and text
	state, events []string
}

func (o effect) differs(mine string, other effect, its string) (differences []string) {
	for _, c := range []struct {
		what     string
		one, two []string
	}{{"answer", []string{o.answer}, []string{other.answer}}, {"state", o.state, other.state}, {"events", o.events, other.events}} {
		for i := range max(len(c.one), len(c.two)) {
			one, two := at(c.one, i), at(c.two, i)
			if one != two {
				differences = append(differences, fmt.Sprintf("%s\n\t%s: %s\n\t%s: %s", c.what, mine, one, its, two))
				break // the rest may be shifted
			}
		}
	}
	return differences
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "nothing"
}

// tell sends a request in the twin's encoding, if that can express it.
func (w *twin) tell(t *testing.T, m *method.Method, req proto.Message) (o effect) {
	t.Helper()
	wire := w.send
	if w.encoding == encodings[0] && !inREST(m, req) {
		wire = w.proto
	}
	a := wire.call(t, adminToken, m, req)
	w.lookUp(t) // names for what is new
	o.code = a.code
	o.answer = w.rename(fmt.Sprintf("%s %s (%s) %s", a.code, position.ReplaceAllString(a.message, ""), a.id, known(a.fields)))
	for _, query := range stateQueries {
		o.state = append(o.state, rows(t, w.state, query)...)
	}
	o.events = rows(t, w.state, eventsQuery, w.events)
	w.events += len(o.events) // their sequences have no gaps
	o.state, o.events = w.renameAll(o.state), w.renameAll(o.events)
	return o
}

var (
	position = regexp.MustCompile(` \(line \d+:\d+\)`) // of what can't be decoded: only JSON has lines
	// What each service makes up on its own, and how long something took.
	random = map[string]bool{"secret": true, "signingKey": true, "primaryKeyId": true, "nextPageToken": true, "duration": true, "messageId": true,
		"protocol": true, "requestId": true, "head": true}
)

// known is an answer without what is random in it.
func known(f map[string]any) string {
	text, _ := json.Marshal(withoutRandom(f)) // it was JSON before
	return string(text)
}

func withoutRandom(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			if out[key] = withoutRandom(value); random[key] {
				out[key] = "random"
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = withoutRandom(v[i])
		}
		return out
	}
	return v
}

// lookUp learns what ids there are; those that were are not forgotten.
func (w *twin) lookUp(t *testing.T) {
	t.Helper()
	w.requests.providers = column(t, w.state, `SELECT id FROM providers ORDER BY created, id`)
	w.requests.messages = column(t, w.state, `SELECT id FROM messages ORDER BY created, id`)
	w.requests.tokens = column(t, w.state, `SELECT id FROM tokens WHERE id <> 'admin' ORDER BY created, id`)
	for kind, ids := range map[string][]string{"mail": w.requests.messages, "token": w.requests.tokens} {
		for _, id := range ids {
			if w.names[id] == "" {
				w.names[id] = fmt.Sprintf("%s-%d", kind, len(w.names)+1)
				w.pairs = append(w.pairs, id, w.names[id])
			}
		}
	}
	w.renamer = strings.NewReplacer(w.pairs...)
}

func (w *twin) rename(text string) string { return w.renamer.Replace(text) }

func (w *twin) renameAll(lines []string) []string {
	return strings.Split(w.rename(strings.Join(lines, "\n")), "\n")
}

// inREST reports whether the method's route can carry the request. It can't if a variable of its path is
// empty, or a dot or two, which clients and proxies take out of paths, or if there is no body for the
// other fields.
func inREST(m *method.Method, req proto.Message) bool {
	r, variables := req.ProtoReflect(), m.Route.Variables()
	for _, name := range variables {
		switch r.Get(r.Descriptor().Fields().ByTextName(name)).String() {
		case "", ".", "..":
			return false
		}
	}
	fits := true
	r.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		fits = m.Route.Body || slices.Contains(variables, string(fd.Name()))
		return fits
	})
	return fits
}

// seedOf is an input that makes a request of the method, from the bytes over and over.
func seedOf(name string, fill ...byte) []byte {
	i := slices.IndexFunc(unaryMethods, func(m *method.Method) bool { return m.Name == name })
	return append([]byte{byte(i)}, bytes.Repeat(fill, 60/len(fill))...)
}

// differentialSeeds are inputs for every method, sensible at first, then ever less so, and random ones.
func differentialSeeds(random int) (seeds [][]byte) {
	for _, m := range unaryMethods { // there is something to work on, which the one before may have removed
		for _, name := range []string{"AddEmailProviderSMTP", "SendMessage", "ActivateEmailProvider", "UpdateEmailProviderSMTPPassword", m.Name} {
			seeds = append(seeds, seedOf(name, 0))
		}
		seeds = append(seeds, seedOf(m.Name, 0, 3), seedOf(m.Name, nasty, byte(slices.Index(nastyTexts, notUTF8))))
	}
	for i, m := range unaryMethods {
		seeds = append(seeds, seedOf(m.Name, nasty, byte(i)), seedOf(m.Name, 0, nasty, byte(i)), seedOf(m.Name, free, 3, 'a', 'b', '/'), seedOf(m.Name, leftOut))
	}
	r := rand.New(rand.NewPCG(19, 5))
	for range random {
		seed := []byte{byte(r.IntN(len(unaryMethods)))}
		for range 80 {
			seed = append(seed, byte(r.Uint32())&[]byte{0, 3, 7, 255}[r.IntN(4)])
		}
		seeds = append(seeds, seed)
	}
	return seeds
}

// TestDifferential (G19): one request in five encodings has the same answer, state and event.
func TestDifferential(t *testing.T) {
	ts := startTwins(t, func(string, *app.Config) {})
	codes, succeeded := map[connect.Code]int{}, map[string]bool{}
	seeds := differentialSeeds(atLength(40, 10000))
	mismatches := 0
	for _, seed := range seeds {
		code, differences := ts.tell(t, seed)
		if codes[code]++; code == 0 {
			succeeded[unaryMethods[int(seed[0])%len(unaryMethods)].Name] = true
		}
		for _, d := range differences {
			mismatches++
			t.Errorf("after %d requests, %s: %s", ts.calls, ts.past[len(ts.past)-1], d)
		}
		if mismatches > 10 {
			t.FailNow()
		}
	}
	t.Logf("REL differential requests=%d encodings=%d methods=%d succeeded=%d codes=%d mismatches=%d",
		len(seeds), len(encodings), len(unaryMethods), len(succeeded), len(codes), mismatches)
	if len(codes) < 4 || len(succeeded) < len(unaryMethods)*3/4 {
		t.Errorf("only %v ever succeeded; codes %v", slices.Sorted(maps.Keys(succeeded)), codes)
	}
}

// altering is a store that a handler which differs in one protocol would fill.
type altering struct {
	app.Store
	alter func(*emailprovider.Change)
}

// Apply implements emailprovider.Store.
func (a altering) Apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	a.alter(&c)
	return a.Store.Apply(ctx, c)
}

// TestDifferentialSees is the red control: in one encoding a service does something else.
func TestDifferentialSees(t *testing.T) {
	for what, differ := range map[string]func(c *app.Config){
		"answer": func(c *app.Config) { c.RefuseDeprecated = true },
		"state": func(c *app.Config) {
			c.WrapStore = func(s app.Store) app.Store {
				return altering{idle{s}, func(c *emailprovider.Change) {
					if c.Put != nil {
						put := *c.Put
						put.Description += "."
						c.Put = &put
					}
				}}
			}
		},
		"events": func(c *app.Config) {
			c.WrapStore = func(s app.Store) app.Store {
				return altering{idle{s}, func(c *emailprovider.Change) { c.Event.KeptCredential = !c.Event.KeptCredential }}
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			ts := startTwins(t, func(encoding string, c *app.Config) {
				if encoding == "grpcweb/h1" {
					differ(c)
				}
			})
			for _, seed := range differentialSeeds(0) {
				_, differences := ts.tell(t, seed)
				for _, d := range differences {
					if strings.HasPrefix(d, what) && strings.Contains(d, "grpcweb/h1") {
						return
					}
				}
			}
			t.Error("a service that differs in one encoding was not seen")
		})
	}
}

// FuzzDifferential looks for a request that TestDifferential does not have. The services are the same for
// all inputs; what they were asked before is told with what went wrong.
func FuzzDifferential(f *testing.F) {
	for _, m := range unaryMethods {
		f.Add(seedOf(m.Name, 0))
		f.Add(seedOf(m.Name, nasty, byte(slices.Index(nastyTexts, notUTF8)))) // REST once took it in a path
	}
	ts := startTwins(f, func(string, *app.Config) {})
	f.Fuzz(func(t *testing.T, input []byte) {
		if _, differences := ts.tell(t, input); len(differences) > 0 {
			t.Errorf("%s\nafter, the oldest first:\n%s", strings.Join(differences, "\n"), strings.Join(ts.past[max(0, len(ts.past)-50):], "\n"))
		}
	})
}
