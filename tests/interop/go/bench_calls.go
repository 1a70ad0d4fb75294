package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/sync/errgroup"
)

const (
	verifiedCalls    = 50
	verifiedMessages = 2000
	verifiedFrames   = 16
)

// caller makes calls, each on a new stream of one connection.
type caller struct {
	ctx    context.Context
	host   host.Host
	server peer.ID
}

// check looks at a payload, whose length is right.
type check func(data []byte) error

var unaryCall = frame(payload(requestBytes))

func (c *caller) unary(verify check) error {
	var buffer [replyBytes]byte
	return c.call(unaryProtocol, unaryCall, 1, buffer[:], verify)
}

func (c *caller) stream(id protocol.ID, count, length int, verify check) error {
	return c.call(id, countFrame(count), count, make([]byte, length), verify)
}

func countFrame(count int) []byte {
	return frame(binary.BigEndian.AppendUint64(nil, uint64(count)))
}

// call makes one call whose reply is so many frames, each exactly as long as the buffer, and then the end.
func (c *caller) call(id protocol.ID, request []byte, count int, buffer []byte, verify check) (err error) {
	s, err := c.open(id, request)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = s.Reset()
			err = fmt.Errorf("%s: %w", id, err)
		}
	}()
	reader := readers.Get().(*bufio.Reader)
	defer readers.Put(reader)
	reader.Reset(s)
	for i := range count {
		data, err := readFrame(reader, buffer)
		if err != nil {
			return fmt.Errorf("frame %d of %d: %w", i, count, err)
		}
		if len(data) != len(buffer) {
			return fmt.Errorf("frame %d has %d bytes, not %d", i, len(data), len(buffer))
		}
		if verify != nil {
			if err := verify(data); err != nil {
				return fmt.Errorf("frame %d: %w", i, err)
			}
		}
	}
	if _, err := reader.ReadByte(); err != io.EOF {
		return fmt.Errorf("%v after %d frames, not the end", err, count)
	}
	return s.Close()
}

// open sends the request on a new stream and closes its own side.
func (c *caller) open(id protocol.ID, request []byte) (network.Stream, error) {
	s, err := c.host.NewStream(c.ctx, c.server, id)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", id, err)
	}
	if _, err := s.Write(request); err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	if err := s.CloseWrite(); err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	return s, nil
}

// hold is a call that stays open after its first message.
func (c *caller) hold() (network.Stream, error) {
	s, err := c.open(holdProtocol, countFrame(1))
	if err != nil {
		return nil, err
	}
	// Exactly the one frame, unbuffered: a reader kept for each held call would be memory that the stack does not need.
	received := make([]byte, len(burstMessage))
	if _, err := io.ReadFull(s, received); err != nil {
		_ = s.Reset()
		return nil, err
	}
	if !slices.Equal(received, burstMessage) {
		_ = s.Reset()
		return nil, fmt.Errorf("%s: the first message is not the payload of %d bytes", holdProtocol, messageBytes)
	}
	return s, nil
}

func (c *caller) runUnary(concurrency int, duration time.Duration) (facts, error) {
	latencies := make([][]time.Duration, concurrency)
	result, err := measured(func() (int, error) {
		var callers errgroup.Group
		end := time.Now().Add(duration)
		for i := range latencies {
			callers.Go(func() error {
				for start := time.Now(); start.Before(end); {
					if err := c.unary(nil); err != nil {
						return err
					}
					now := time.Now()
					latencies[i] = append(latencies[i], now.Sub(start))
					start = now
				}
				return nil
			})
		}
		err := callers.Wait()
		operations := 0
		for _, ofCaller := range latencies {
			operations += len(ofCaller)
		}
		return operations, err
	})
	if err != nil {
		return nil, err
	}
	result["latency_us"] = percentiles(slices.Concat(latencies...))
	return result, nil
}

func (c *caller) runPaced(messages int) (facts, error) {
	latencies := make([]time.Duration, 0, messages)
	result, err := measured(func() (int, error) {
		return messages, c.stream(pacedProtocol, messages, messageBytes, func(data []byte) error {
			sent := int64(binary.BigEndian.Uint64(data))
			latencies = append(latencies, time.Duration(time.Now().UnixNano()-sent))
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	result["latency_us"] = percentiles(latencies)
	return result, nil
}

func (c *caller) runBulk(frames int) (facts, error) {
	result, err := measured(func() (int, error) {
		return frames, c.stream(bulkProtocol, frames, bulkBytes, nil)
	})
	if err != nil {
		return nil, err
	}
	result["bytes"] = frames * bulkBytes
	return result, nil
}

func (c *caller) verify() error {
	for range verifiedCalls {
		if err := c.unary(sameDigest(replyBytes)); err != nil {
			return err
		}
	}
	if err := c.stream(burstProtocol, verifiedMessages, messageBytes, sameDigest(messageBytes)); err != nil {
		return err
	}
	return c.stream(bulkProtocol, verifiedFrames, bulkBytes, sameDigest(bulkBytes))
}

// sameDigest checks by SHA-256 that a payload of that length is the right one.
func sameDigest(length int) check {
	want := sha256.Sum256(payload(length))
	return func(data []byte) error {
		if got := sha256.Sum256(data); got != want {
			return fmt.Errorf("SHA-256 %x, not %x", got, want)
		}
		return nil
	}
}
