package main

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	echoProtocol   protocol.ID = "/interop/echo/1"
	sourceProtocol protocol.ID = "/interop/source/1"
	sinkProtocol   protocol.ID = "/interop/sink/1"
	slowProtocol   protocol.ID = "/interop/slow/1"
	halfProtocol   protocol.ID = "/interop/half/1"
	resetProtocol  protocol.ID = "/interop/reset/1"
)

const (
	slowFirstPause = 2 * time.Second
	slowPause      = 200 * time.Millisecond
	slowEveryBytes = 4 << 20
)

// patternModulus is the period of the pattern: byte i is i % 251, a prime, so that no power of two hides a lost block.
const patternModulus = 251

var patternBlock = newPatternBlock()

// newPatternBlock holds whole periods, so that every block of a long pattern is the same.
func newPatternBlock() []byte {
	block := make([]byte, 256*patternModulus)
	for i := range block {
		block[i] = byte(i % patternModulus)
	}
	return block
}

func writePattern(w io.Writer, count uint64) error {
	for count > 0 {
		size := min(count, uint64(len(patternBlock)))
		if _, err := w.Write(patternBlock[:size]); err != nil {
			return err
		}
		count -= size
	}
	return nil
}

// patternChecker is a writer that takes the pattern and nothing else.
type patternChecker struct {
	count uint64
}

func (c *patternChecker) Write(data []byte) (int, error) {
	written := 0
	for written < len(data) {
		want := patternBlock[c.count%patternModulus:]
		size := min(len(data)-written, len(want))
		if !bytes.Equal(data[written:written+size], want[:size]) {
			return written, fmt.Errorf("the pattern is broken within the %d bytes after byte %d", size, c.count)
		}
		written += size
		c.count += uint64(size)
	}
	return written, nil
}

// slowReader pauses before the first byte and after every 4 MiB, so that the sender's windows fill.
type slowReader struct {
	source io.Reader
	count  uint64
	pauses uint64
}

func (r *slowReader) Read(data []byte) (int, error) {
	if r.count == 0 && r.pauses == 0 {
		time.Sleep(slowFirstPause)
		r.pauses++
	}
	for ; r.pauses <= r.count/slowEveryBytes; r.pauses++ {
		time.Sleep(slowPause)
	}
	count, err := r.source.Read(data)
	r.count += uint64(count)
	return count, err
}
