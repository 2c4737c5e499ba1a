package smtptest

import (
	"bufio"
	"crypto/tls"
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

	mu    sync.Mutex
	lines []string
	conns map[net.Conn]struct{}
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
}

func (h *Hostile) play(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.conns, conn)
	}()
	p := &player{Hostile: h, conn: conn}
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
	in   *bufio.Reader
	code string // of the last answer
}

// Write notes the reply code: it decides what the next line is.
func (p *player) Write(b []byte) (int, error) {
	p.code = string(b[:min(3, len(b))])
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
	switch {
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
	for {
		line, err := p.line()
		if err != nil {
			return err
		}
		if line == "." {
			return p.answer(Body, line)
		}
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
	conn := tls.Server(p.conn, &tls.Config{Certificates: []tls.Certificate{*p.script.Certificate}})
	p.conn = conn
	return conn.Handshake()
}

func (p *player) answer(stage, line string) error {
	answer, ok := p.script.Answers[stage]
	if !ok {
		answer = Say(p.friendly(stage))
	}
	return answer(p, line)
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
		return reply + "250 AUTH " + offer + "\r\n"
	case Upgrade:
		return "220 go ahead\r\n"
	case Auth, Response:
		return "235 welcome\r\n"
	case Data:
		return "354 go ahead\r\n"
	case Quit:
		return "221 bye\r\n"
	}
	return "250 ok\r\n"
}
