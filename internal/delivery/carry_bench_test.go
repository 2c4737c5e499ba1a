package delivery_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// sink takes mails as fast as it can read them and forgets them.
type sink struct {
	listener net.Listener
	offers   string
	mails    atomic.Int64
}

func startSink(b *testing.B, config *tls.Config, pipelining bool) *sink {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	s := &sink{listener: l, offers: "250 8BITMIME\r\n"}
	if pipelining {
		s.offers = "250-PIPELINING\r\n" + s.offers
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *sink) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in, out := bufio.NewReaderSize(conn, 16<<10), bufio.NewWriter(conn)
	reply := "220 sink\r\n"
	for {
		_, _ = out.WriteString(reply)
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		reply = "250 ok\r\n"
		switch line[0] {
		case 'E':
			reply = "250-sink\r\n" + s.offers
		case 'Q':
			return
		case 'D':
			_, _ = out.WriteString("354 go\r\n")
			if in.Buffered() == 0 && out.Flush() != nil {
				return
			}
			for !bytes.Equal(line, []byte(".\r\n")) {
				if line, err = in.ReadSlice('\n'); err != nil {
					return
				}
			}
			s.mails.Add(1)
		}
	}
}

// benchMails are mails of 2 KiB.
func benchMails(n int) []emailprovider.Mail {
	mails := make([]emailprovider.Mail, n)
	text := strings.Repeat(strings.Repeat("x", 62)+"\r\n", 27)
	for i := range mails {
		mails[i] = emailprovider.Mail{
			MessageID: strconv.Itoa(i) + "@example.com", Date: time.Now(), Subject: "Benchmark", Text: text,
			To: []string{"rcpt@example.org"}, Recipients: []string{"rcpt@example.org"},
		}
	}
	return mails
}

// benchCarry carries b.N mails over four sessions, in batches.
func benchCarry(b *testing.B, o delivery.Options, via emailprovider.Route) {
	const sessions, batch = 4, 100
	t := delivery.New(o)
	defer t.Close()
	var left atomic.Int64
	left.Store(int64(b.N))
	mails := benchMails(batch)
	b.ReportAllocs()
	b.ResetTimer()
	var senders sync.WaitGroup
	for range sessions {
		senders.Go(func() {
			for {
				n := min(left.Add(-batch)+batch, batch)
				if n <= 0 {
					return
				}
				t.Carry(context.Background(), via, mails[:n], func(_ int, d emailprovider.Delivery) bool {
					if d.Failed != nil || d.Untried {
						b.Error(d.Failed)
					}
					return true
				})
			}
		})
	}
	senders.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
}

func BenchmarkCarry(b *testing.B) {
	for name, pipelining := range map[string]bool{"pipelining": true, "one by one": false} {
		b.Run(name, func(b *testing.B) {
			s := startSink(b, nil, pipelining)
			via := plainRoute(s.listener.Addr().String())
			via.ProviderID = "1"
			benchCarry(b, delivery.Options{}, via)
			if s.mails.Load() != int64(b.N) {
				b.Errorf("%d of %d mails", s.mails.Load(), b.N)
			}
		})
	}
}

// BenchmarkTLS compares kept TLS sessions with one for each mail.
func BenchmarkTLS(b *testing.B) {
	ca := newCA(b)
	cert, err := ca.Issue(time.Now().Add(-time.Hour), time.Now().Add(time.Hour), hostName)
	if err != nil {
		b.Fatal(err)
	}
	s := startSink(b, &tls.Config{Certificates: []tls.Certificate{*cert}}, true)
	via := plainRoute(hostName + ":465")
	via.SMTP.TLS = true
	via.ProviderID = "1"
	o := delivery.Options{Roots: ca.Pool(), Dialer: redirect{s.listener.Addr().String(), nil}}
	b.Run("kept", func(b *testing.B) { benchCarry(b, o, via) })
	b.Run("dialled", func(b *testing.B) {
		t := delivery.New(o)
		mail := benchMails(1)[0]
		b.SetParallelism(2)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := t.Deliver(context.Background(), via, mail); err != nil {
					b.Error(err)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
	})
}
