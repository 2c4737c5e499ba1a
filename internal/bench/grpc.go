package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// Frame types and flags (RFC 9113, section 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4

	frameHeaderSize = 9
	preface         = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	// moreWindow lets the server send 2 GiB without asking again: more than a measurement has.
	moreWindow = 1<<31 - 1 - 65535
)

// grpcConnection makes one gRPC call over and over on an HTTP/2 connection, and allocates nothing.
// It does what that takes and no more: the server's pings and windows, which outlast a measurement
// of small calls, are not looked at.
type grpcConnection struct {
	net.Conn
	reader *bufio.Reader
	first  grpcRequest // that tells the fields
	later  grpcRequest // that names those which the server knows
	stream uint32
}

// grpcRequest is a HEADERS frame, then a DATA frame.
type grpcRequest struct {
	frames []byte
	data   int // where the latter begins
}

// on returns the request on a stream.
func (r grpcRequest) on(stream uint32) []byte {
	binary.BigEndian.PutUint32(r.frames[5:], stream)
	binary.BigEndian.PutUint32(r.frames[r.data+5:], stream)
	return r.frames
}

// dialGRPC connects by prior knowledge (RFC 9113, section 3.3); everything on the connection must be
// over by the deadline.
func dialGRPC(ctx context.Context, address string, deadline time.Time, procedure string, message []byte) (*grpcConnection, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	first, later := fields(
		":method", "POST", ":scheme", "http", ":path", procedure, ":authority", address,
		"content-type", "application/grpc+proto", "te", "trailers",
		"authorization", "Bearer "+adminToken, "user-agent", userAgent,
	)
	c := &grpcConnection{
		Conn: conn, reader: bufio.NewReader(conn), first: newGRPCRequest(first, message), later: newGRPCRequest(later, message),
	}
	hello := appendFrame([]byte(preface), frameSettings, 0, nil)
	hello = appendFrame(hello, frameWindowUpdate, 0, binary.BigEndian.AppendUint32(nil, moreWindow))
	_, err = conn.Write(hello)
	return c, errors.Join(err, conn.SetDeadline(deadline))
}

func newGRPCRequest(fields, message []byte) grpcRequest {
	headers := appendFrame(nil, frameHeaders, flagEndHeaders, fields)
	// A byte for "not compressed" and four of length stand before a message (gRPC over HTTP/2).
	envelope := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	return grpcRequest{appendFrame(headers, frameData, flagEndStream, envelope), len(headers)}
}

// appendFrame appends a frame of stream 0.
func appendFrame(out []byte, kind, flags byte, payload []byte) []byte {
	n := len(payload)
	out = append(out, byte(n>>16), byte(n>>8), byte(n), kind, flags, 0, 0, 0, 0)
	return append(out, payload...)
}

// fields encodes names and values as gRPC's clients do: as literals that go into the table of the connection
// (RFC 7541, section 6.2.1), and for later calls as what is in there (section 6.1). None may have more than
// 126 bytes.
func fields(namesAndValues ...string) (first, later []byte) {
	const newest = 62 // the place of what came last
	for i, s := range namesAndValues {
		if i%2 == 0 {
			first = append(first, 0x40)
			later = append(later, 0x80|byte(newest+(len(namesAndValues)-i)/2-1))
		}
		first = append(append(first, byte(len(s))), s...)
	}
	return first, later
}

// call makes the call. An answer without a message is an error: only a call that went well has one.
func (c *grpcConnection) call() error {
	request := c.later
	if c.stream == 0 {
		c.stream, request = 1, c.first
	} else {
		c.stream += 2
	}
	if _, err := c.Write(request.on(c.stream)); err != nil {
		return err
	}
	answered := false
	for {
		length, kind, flags, err := c.readFrame()
		if err != nil {
			return err
		}
		answered = answered || kind == frameData && length > 0
		switch {
		case kind == frameReset || kind == frameGoAway:
			return fmt.Errorf("the server ended the call with a frame of type %d", kind)
		case kind == frameSettings && flags&flagAck == 0:
			if _, err := c.Write(settingsAck); err != nil {
				return err
			}
		case kind > frameHeaders || flags&flagEndStream == 0:
		case !answered:
			return errors.New("the call failed")
		default:
			return nil
		}
	}
}

var settingsAck = appendFrame(nil, frameSettings, flagAck, nil)

// readFrame reads a frame away. All frames of a stream are of the call under way.
func (c *grpcConnection) readFrame() (length int, kind, flags byte, err error) {
	header, err := c.reader.Peek(frameHeaderSize)
	if err != nil {
		return 0, 0, 0, err
	}
	length = int(header[0])<<16 | int(header[1])<<8 | int(header[2])
	kind, flags = header[3], header[4]
	_, err = c.reader.Discard(frameHeaderSize + length)
	return length, kind, flags, err
}
