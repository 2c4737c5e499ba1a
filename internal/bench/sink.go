package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// user has the password at servers that demand AUTH.
const user = "mailer@example.com"

// server takes mails and forgets them.
type server interface {
	address() string
	// close ends the server and returns how many mails it has taken.
	close() (int, error)
}

// opener starts a server that has taken no mails yet.
type opener func() (server, error)

// sink is an SMTP server that allocates nothing for a mail. It answers what is sent in a group
// together, whether it offers PIPELINING or not.
type sink struct {
	listener net.Listener
	options  sinkOptions
	hello    []byte
	mails    atomic.Int64
	sessions sync.WaitGroup
}

type sinkOptions struct {
	config     *tls.Config               // nil for a plain server
	auth       bool                      // demand AUTH PLAIN
	pipelining bool                      // offer it
	hears      func(hello, login string) // if not nil, offer AUTH and take every one
}

func (o sinkOptions) open() (server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{listener: l, options: o, hello: []byte("250-sink\r\n")}
	if o.auth || o.hears != nil {
		s.hello = append(s.hello, "250-AUTH PLAIN\r\n"...)
	}
	if o.pipelining {
		s.hello = append(s.hello, "250-PIPELINING\r\n"...)
	}
	s.hello = append(s.hello, "250 8BITMIME\r\n"...)
	s.sessions.Go(s.accept)
	return s, nil
}

func (s *sink) address() string { return s.listener.Addr().String() }

// close waits until the clients have gone.
func (s *sink) close() (int, error) {
	err := s.listener.Close()
	s.sessions.Wait()
	return int(s.mails.Load()), err
}

func (s *sink) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.sessions.Go(func() {
			defer func() { _ = conn.Close() }()
			if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
				return
			}
			if s.options.config != nil {
				conn = tls.Server(conn, s.options.config)
			}
			_ = s.serve(conn) // its client says what was wrong
		})
	}
}

var (
	greeting = []byte("220 sink\r\n")
	ok       = []byte("250 2.0.0 Ok\r\n")
	goAhead  = []byte("354 Go ahead\r\n")
	goodbye  = []byte("221 2.0.0 Bye\r\n")
	loggedIn = []byte("235 2.7.0 Welcome\r\n")
	denied   = []byte("535 5.7.8 No\r\n")
	demanded = []byte("530 5.7.0 AUTH first\r\n")
	unknown  = []byte("502 5.5.2 What?\r\n")
	finalDot = []byte(".\r\n")
)

func (s *sink) serve(conn net.Conn) error {
	in, out := bufio.NewReaderSize(conn, 16<<10), bufio.NewWriter(conn)
	reply, welcome := greeting, !s.options.auth
	hello := ""
	for {
		_, _ = out.Write(reply) // Flush says what went wrong
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch string(line[:min(4, len(line))]) {
		case "EHLO":
			if reply = s.hello; s.options.hears != nil {
				hello = string(line)
			}
		case "AUTH":
			if reply = denied; s.admits(hello, line) {
				reply, welcome = loggedIn, true
			}
		case "HELO", "RSET", "RCPT":
			reply = ok
		case "MAIL":
			if reply = ok; !welcome {
				reply = demanded
			}
		case "DATA":
			if reply = demanded; welcome {
				reply, err = s.take(in, out)
			}
		case "QUIT":
			_, _ = out.Write(goodbye)
			return out.Flush()
		default:
			reply = unknown
		}
		if err != nil {
			return err
		}
	}
}

// login is the one AUTH command that is right, unless somebody hears them all.
var login = []byte(plainLogin(password))

func (s *sink) admits(hello string, line []byte) bool {
	if s.options.hears == nil {
		return bytes.Equal(line, login)
	}
	s.options.hears(hello, string(line))
	return true
}

// plainLogin is the AUTH command with a password.
func plainLogin(password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)) + "\r\n"
}

// take reads a message.
func (s *sink) take(in *bufio.Reader, out *bufio.Writer) (reply []byte, err error) {
	_, _ = out.Write(goAhead) // Flush says what went wrong
	if in.Buffered() == 0 {
		err = out.Flush()
	}
	for line := []byte(nil); err == nil && !bytes.Equal(line, finalDot); {
		line, err = in.ReadSlice('\n')
	}
	if err != nil {
		return nil, err
	}
	s.mails.Add(1)
	return ok, nil
}
