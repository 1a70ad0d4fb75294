package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	unaryProtocol protocol.ID = "/bench/unary/1"
	burstProtocol protocol.ID = "/bench/burst/1"
	pacedProtocol protocol.ID = "/bench/paced/1"
	bulkProtocol  protocol.ID = "/bench/bulk/1"
	holdProtocol  protocol.ID = "/bench/hold/1"
)

const (
	requestBytes = 100
	replyBytes   = 300
	messageBytes = 40
	bulkBytes    = 256 << 10
	pacePeriod   = 10 * time.Millisecond
)

// payload is what a message of that length holds: byte i is (i * 7 + length) % 256.
func payload(length int) []byte {
	data := make([]byte, length)
	for i := range data {
		data[i] = byte(i*7 + length)
	}
	return data
}

// frame is the data after its length, ready to be written at once.
func frame(data []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(data))), data...)
}

// readFrame reads a frame into the buffer, which is also the limit of its length. io.EOF: there is no further frame.
func readFrame(r *bufio.Reader, buffer []byte) ([]byte, error) {
	length, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if length > uint64(len(buffer)) {
		return nil, fmt.Errorf("a frame of %d bytes, more than %d", length, len(buffer))
	}
	if _, err := io.ReadFull(r, buffer[:length]); err != nil {
		return nil, fmt.Errorf("within a frame of %d bytes: %w", length, err)
	}
	return buffer[:length], nil
}

// answerLines answers every JSON line of stdin with one JSON line, until stdin ends.
func answerLines[Command any](stdin io.Reader, stdout io.Writer, answer func(Command) facts) error {
	lines := bufio.NewScanner(stdin)
	for lines.Scan() {
		var command Command
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			if err := printLine(stdout, failure(fmt.Errorf("%q: %w", lines.Text(), err))); err != nil {
				return err
			}
			continue
		}
		if err := printLine(stdout, answer(command)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func failure(err error) facts {
	return facts{"ok": false, "error": err.Error()}
}
