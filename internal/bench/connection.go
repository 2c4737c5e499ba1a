package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// connection sends one HTTP/1.1 request over and over. It costs next to no CPU and allocates
// nothing, so that what is measured is the service.
type connection struct {
	net.Conn
	reader  *bufio.Reader
	request []byte
}

// dial connects; everything on the connection must be over by the deadline.
func dial(ctx context.Context, address string, deadline time.Time, request []byte) (*connection, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &connection{conn, bufio.NewReader(conn), request}
	return c, conn.SetDeadline(deadline)
}

// requestBytes returns a request as it goes over the wire.
func requestBytes(r *http.Request) ([]byte, error) {
	var wire bytes.Buffer
	err := r.Write(&wire)
	return wire.Bytes(), err
}

var (
	statusOK      = []byte("HTTP/1.1 200 ")
	contentLength = []byte("Content-Length: ") // as net/http writes it
)

// call sends the request and reads the answer away. An answer that is not 200 is an error.
func (c *connection) call() error {
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	status, err := c.reader.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, statusOK) {
		rest, _ := io.ReadAll(io.LimitReader(c.reader, int64(c.reader.Buffered()))) // only to explain
		return fmt.Errorf("answered %s%s", status, rest)
	}
	length, err := c.readHeader()
	if err != nil {
		return err
	}
	_, err = c.reader.Discard(length)
	return err
}

// readHeader reads all header lines and returns the Content-Length.
func (c *connection) readHeader() (int, error) {
	length := -1
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		if value, ok := bytes.CutPrefix(line, contentLength); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, err
			}
		}
	}
	if length < 0 {
		return 0, errors.New("the answer has no Content-Length")
	}
	return length, nil
}
