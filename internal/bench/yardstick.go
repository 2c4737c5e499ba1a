package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
)

// yardstick is what transports are held against: smtp-source handing mails to smtp-sink over kept
// sessions. Where they can't be had it is a bare loop that does the same, and a sink of our own.
type yardstick struct {
	name string
	sink opener // offers PIPELINING
	send func(ctx context.Context, address string, n int) (time.Duration, error)
}

func newYardstick(p *postfix) yardstick {
	if p == nil {
		return yardstick{"a bare loop (smtp-source is not installed)", sinkOptions{pipelining: true}.open, bareLoop}
	}
	return yardstick{"smtp-source", p.openSink, p.source}
}

// hands is the cell of the yardstick, in mails a second. What it takes to start, to connect and to
// hand over the first mail of each session does not count, which is in the yardstick's favour.
func (b *bed) hands(y yardstick) *cell {
	return &cell{name: y.name + " over kept sessions", unit: "mails/s", open: func() (measure, error) {
		return taken(y.sink, func(ctx context.Context, address string) (s sample, handed int, err error) {
			ctx, cancel := context.WithTimeout(ctx, b.length+patience)
			defer cancel()
			first, err := y.send(ctx, address, sessions)
			if err != nil {
				return s, 0, err
			}
			all, err := y.send(ctx, address, b.mails())
			if err == nil {
				s.value = float64(b.mails()-sessions) / beyond(first, all).Seconds()
			}
			return s, sessions + b.mails(), err
		}), nil
	}}
}

// beyond is how long a run took beyond its first mails. Those may have taken longer by themselves when the
// machine was busy; then it is all of the run.
func beyond(first, all time.Duration) time.Duration {
	if first >= all {
		return all
	}
	return all - first
}

// bareLoop hands mails over one command at a time, as smtp-source does.
func bareLoop(ctx context.Context, address string, n int) (time.Duration, error) {
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i := range sessions {
		group.Go(func() error { return bareSession(ctx, address, (n+i)/sessions) })
	}
	err := group.Wait()
	return time.Since(start), err
}

var bareMail = [][]byte{
	[]byte("MAIL FROM:<" + sender + ">\r\n"),
	[]byte("RCPT TO:<" + recipient + ">\r\n"),
	[]byte("DATA\r\n"),
	[]byte("From: <" + sender + ">\r\nTo: <" + recipient + ">\r\nSubject: " + subject + "\r\n\r\n" + text + ".\r\n"),
}

func bareSession(ctx context.Context, address string, n int) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it was told goodbye
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	in := bufio.NewReader(conn)
	exchange := func(say []byte) error {
		if _, err := conn.Write(say); err != nil {
			return err
		}
		reply, err := in.ReadSlice('\n')
		if err == nil && bytes.IndexByte([]byte("23"), reply[0]) < 0 {
			err = fmt.Errorf("the server said %s", reply)
		}
		return err
	}
	err = errors.Join(exchange(nil), exchange([]byte("HELO bench\r\n")))
	for range n {
		for _, say := range bareMail {
			if err == nil {
				err = exchange(say)
			}
		}
	}
	return errors.Join(err, exchange([]byte("QUIT\r\n")))
}
