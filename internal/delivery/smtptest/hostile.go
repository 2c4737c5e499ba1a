package smtptest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
)

// Hostile is a server on loopback that plays a Script to every connection.
type Hostile struct {
	script   Script
	listener net.Listener
	done     sync.WaitGroup

	mu          sync.Mutex
	lines       []string
	messages    []string
	conns       map[net.Conn]struct{}
	connections int
}

// StartHostile starts a server that plays the script. Close ends it.
func StartHostile(s Script) (*Hostile, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &Hostile{script: s, listener: listener, conns: map[net.Conn]struct{}{}}
	h.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			h.track(conn)
			h.done.Go(func() { h.play(conn) })
		}
	})
	return h, nil
}

// Addr is the host:port that the server listens on.
func (h *Hostile) Addr() string { return h.listener.Addr().String() }

// Lines returns every line that clients have sent, message bodies included, without line ends.
func (h *Hostile) Lines() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.lines)
}

// Messages returns the messages whose final dot was answered with a 2xx, as they came: with CRLF line
// ends and doubled dots.
func (h *Hostile) Messages() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.messages)
}

// Connections returns how many connections the server has accepted.
func (h *Hostile) Connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.connections
}

// Close ends the server and its sessions.
func (h *Hostile) Close() error {
	err := h.listener.Close()
	h.mu.Lock()
	for conn := range h.conns {
		_ = conn.Close()
	}
	h.mu.Unlock()
	h.done.Wait()
	return err
}

func (h *Hostile) track(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns[conn] = struct{}{}
	h.connections++
}

func (h *Hostile) play(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.conns, conn)
	}()
	p := &player{Hostile: h, conn: conn, raw: conn}
	if h.script.Implicit && p.secure() != nil {
		return
	}
	p.in = bufio.NewReader(p.conn)
	if p.answer(Greeting, "") != nil {
		return
	}
	for p.turn() == nil {
	}
}

// player is one session of a Hostile server.
type player struct {
	*Hostile
	conn net.Conn
	raw  net.Conn // below TLS
	in   *bufio.Reader
	code string // of the last answer
	from bool   // a sender has been accepted
	rcpt bool   // and a recipient

	message *strings.Builder // that the next answer is about
}

// reset has the connection end with an RST.
func (p *player) reset() {
	if tcp, ok := p.raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
	}
}

// Write notes the reply code: it decides what the next line is. A message is noted before its sender
// knows that it was accepted.
func (p *player) Write(b []byte) (int, error) {
	p.code = string(b[:min(3, len(b))])
	if p.message != nil && len(b) > 3 && b[0] == '2' && b[3] == ' ' {
		p.mu.Lock()
		p.messages = append(p.messages, p.message.String())
		p.mu.Unlock()
	}
	p.message = nil
	return p.conn.Write(b)
}

// Read lets an answer wait for the client to close.
func (p *player) Read(b []byte) (int, error) { return p.conn.Read(b) }

func (p *player) turn() error {
	line, err := p.line()
	if err != nil {
		return err
	}
	stage, _, _ := strings.Cut(strings.ToUpper(line), " ")
	if p.code == "334" {
		stage = Response
	}
	if err := p.answer(stage, line); err != nil {
		return err
	}
	accepted := strings.HasPrefix(p.code, "2")
	switch {
	case stage == MailFrom || stage == Rset:
		p.from, p.rcpt = accepted && stage == MailFrom, false
	case stage == RcptTo:
		p.rcpt = p.rcpt || accepted
	case stage == Upgrade && p.code == "220":
		if err := p.secure(); err != nil {
			return err
		}
		p.in = bufio.NewReader(p.conn)
	case stage == Data && p.code == "354":
		return p.body()
	case stage == Quit:
		return io.EOF
	}
	return nil
}

func (p *player) body() error {
	var message strings.Builder
	for {
		line, err := p.line()
		if err != nil {
			return err
		}
		if line != "." {
			message.WriteString(line + "\r\n")
			continue
		}
		p.message = &message
		return p.answer(Body, line)
	}
}

func (p *player) line() (string, error) {
	line, err := p.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line)
	return line, nil
}

func (p *player) secure() error {
	if p.script.Certificate == nil {
		return io.EOF
	}
	config := &tls.Config{Certificates: []tls.Certificate{*p.script.Certificate}, MaxVersion: p.script.MaxVersion}
	if config.MaxVersion != 0 {
		config.MinVersion = tls.VersionTLS10
	}
	conn := tls.Server(p.conn, config)
	p.conn = conn
	return conn.Handshake()
}

func (p *player) answer(stage, line string) error {
	if answer, ok := p.script.Answers[stage]; ok {
		if err := answer(p, line); !errors.Is(err, errFriendly) {
			return err
		}
	}
	return Say(p.friendly(stage))(p, line)
}

func (p *player) friendly(stage string) string {
	switch stage {
	case Greeting:
		return "220 hostile.example ESMTP\r\n"
	case EHLO:
		offer := p.script.AuthOffer
		if offer == "" {
			offer = "PLAIN LOGIN"
		}
		reply := "250-hostile.example\r\n"
		if _, secured := p.conn.(*tls.Conn); !secured && p.script.Certificate != nil {
			reply += "250-STARTTLS\r\n"
		}
		if p.script.Pipelining {
			reply += "250-PIPELINING\r\n"
		}
		return reply + "250 AUTH " + offer + "\r\n"
	case Upgrade:
		return "220 go ahead\r\n"
	case Auth, Response:
		return "235 welcome\r\n"
	case RcptTo:
		if !p.from {
			return "503 5.5.1 from nobody?\r\n"
		}
	case Data:
		if !p.rcpt {
			return "503 5.5.1 to nobody?\r\n"
		}
		return "354 go ahead\r\n"
	case Quit:
		return "221 bye\r\n"
	}
	return "250 ok\r\n"
}
