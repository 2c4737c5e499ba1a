package main

import (
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

// readMessage reads one message of the runner: its size as a big-endian
// uint32, then the message in protobuf's binary format.
func readMessage(r io.Reader, message proto.Message) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return fmt.Errorf("read the size of %s: %w", name(message), err)
	}
	data := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(r, data); err != nil {
		return fmt.Errorf("read %s: %w", name(message), err)
	}
	if err := proto.Unmarshal(data, message); err != nil {
		return fmt.Errorf("decode %s: %w", name(message), err)
	}
	return nil
}

// writeMessage writes one message in the form readMessage reads.
func writeMessage(w io.Writer, message proto.Message) error {
	data, err := proto.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name(message), err)
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	if _, err := w.Write(append(frame, data...)); err != nil {
		return fmt.Errorf("write %s: %w", name(message), err)
	}
	return nil
}

func name(message proto.Message) string {
	return string(message.ProtoReflect().Descriptor().Name())
}
