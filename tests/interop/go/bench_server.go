package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
)

const (
	maxRequestBytes = 1 << 10
	coalescedBytes  = 64 << 10
	readBufferBytes = 4 << 10
)

func benchServe(coalesce bool, stdin io.Reader, stdout io.Writer) error {
	h, err := newListener()
	if err != nil {
		return err
	}
	defer h.Close()
	serveBench(h, coalesce)
	address, err := listenAddress(h)
	if err != nil {
		return err
	}
	tuning := settings()
	tuning["burst_is_coalesced_by_the_handler"] = coalesce
	if err := printLine(stdout, facts{"address": address, "settings": tuning}); err != nil {
		return err
	}
	return answerLines(stdin, stdout, answerUsage)
}

type serverCommand struct {
	Command string `json:"cmd"`
}

func answerUsage(command serverCommand) facts {
	if command.Command != "usage" {
		return failure(fmt.Errorf("no command %q", command.Command))
	}
	// CPU first: what the garbage collection below costs belongs to no run.
	cpu := cpuSeconds()
	rss, err := residentKiB()
	if err != nil {
		return failure(err)
	}
	return facts{"cpu_s": cpu, "rss_kib": rss}
}

func serveBench(h host.Host, coalesce bool) {
	gone := watchConnections(h)
	handle(h, unaryProtocol, serveUnary)
	handle(h, burstProtocol, func(s network.Stream) error { return serveBurst(s, coalesce) })
	handle(h, pacedProtocol, servePaced)
	handle(h, bulkProtocol, serveBulk)
	handle(h, holdProtocol, func(s network.Stream) error { return serveHold(s, gone) })
}

// One buffer for each call that runs, not for each call: allocating them would be most of the garbage.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBufferBytes) }}

// readRequest reads the one frame of a request and the half-close after it.
func readRequest(s network.Stream, buffer []byte) ([]byte, error) {
	reader := readers.Get().(*bufio.Reader)
	defer readers.Put(reader)
	reader.Reset(s)
	request, err := readFrame(reader, buffer)
	if err != nil {
		return nil, fmt.Errorf("the request: %w", err)
	}
	if _, err := reader.ReadByte(); err != io.EOF {
		return nil, fmt.Errorf("no half-close after the request, but %w", err)
	}
	return request, nil
}

func readCount(s network.Stream) (uint64, error) {
	var buffer [maxRequestBytes]byte
	request, err := readRequest(s, buffer[:])
	if err != nil {
		return 0, err
	}
	if len(request) != 8 {
		return 0, fmt.Errorf("a request of %d bytes, not a count of 8", len(request))
	}
	return binary.BigEndian.Uint64(request), nil
}

var (
	unaryRequest = payload(requestBytes)
	unaryReply   = frame(payload(replyBytes))
	burstMessage = frame(payload(messageBytes))
	bulkMessage  = frame(payload(bulkBytes))
)

func serveUnary(s network.Stream) error {
	var buffer [maxRequestBytes]byte
	request, err := readRequest(s, buffer[:])
	if err != nil {
		return err
	}
	if !bytes.Equal(request, unaryRequest) {
		return fmt.Errorf("a request of %d bytes that is not the payload of %d", len(request), requestBytes)
	}
	_, err = s.Write(unaryReply)
	return err
}

// serveBurst hands every message to the stack when it has it, as a handler does that streams tokens. Coalesced is what
// a handler can do that knows of the next message.
func serveBurst(s network.Stream, coalesce bool) error {
	if !coalesce {
		return serveRepeated(s, s, burstMessage)
	}
	buffered := bufio.NewWriterSize(s, coalescedBytes)
	if err := serveRepeated(s, buffered, burstMessage); err != nil {
		return err
	}
	return buffered.Flush()
}

func serveBulk(s network.Stream) error {
	return serveRepeated(s, s, bulkMessage)
}

func serveRepeated(s network.Stream, w io.Writer, message []byte) error {
	count, err := readCount(s)
	if err != nil {
		return err
	}
	for range count {
		if _, err := w.Write(message); err != nil {
			return err
		}
	}
	return nil
}

func servePaced(s network.Stream) error {
	count, err := readCount(s)
	if err != nil {
		return err
	}
	message := bytes.Clone(burstMessage)
	stamp := message[len(message)-messageBytes:][:8]
	start := time.Now()
	for i := range count {
		// From the start and not from the message before, so that lateness does not add up.
		time.Sleep(time.Until(start.Add(time.Duration(i) * pacePeriod)))
		binary.BigEndian.PutUint64(stamp, uint64(time.Now().UnixNano()))
		if _, err := s.Write(message); err != nil {
			return err
		}
	}
	return nil
}

// serveHold sends one message and waits. go-libp2p tells a handler of a reset when it reads or writes: after the peer's
// half-close a read says io.EOF for good, and an idle call writes nothing. What ends the wait is the connection's end.
func serveHold(s network.Stream, gone *connectionWatch) error {
	if _, err := readCount(s); err != nil {
		return err
	}
	if _, err := s.Write(burstMessage); err != nil {
		return err
	}
	<-gone.of(s.Conn())
	return s.Reset()
}

// connectionWatch has a channel for each connection with a held call, which is closed when the connection ends.
type connectionWatch struct {
	mutex   sync.Mutex
	waiting map[network.Conn]chan struct{}
}

func watchConnections(h host.Host) *connectionWatch {
	watch := &connectionWatch{waiting: map[network.Conn]chan struct{}{}}
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) { watch.end(c) }})
	return watch
}

func (w *connectionWatch) of(c network.Conn) <-chan struct{} {
	w.mutex.Lock()
	gone, known := w.waiting[c]
	if !known {
		gone = make(chan struct{})
		w.waiting[c] = gone
	}
	w.mutex.Unlock()
	if c.IsClosed() { // then the notification may have been before the wait
		w.end(c)
	}
	return gone
}

func (w *connectionWatch) end(c network.Conn) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if gone, known := w.waiting[c]; known {
		delete(w.waiting, c)
		close(gone)
	}
}
