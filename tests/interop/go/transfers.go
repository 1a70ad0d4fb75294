package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/sync/errgroup"
)

const transferBytes = 64 << 20

func (d *dialer) echo() (facts, error) {
	sizes := []int{1 << 10, 1 << 20}
	for _, size := range sizes {
		if err := d.echoBytes(size); err != nil {
			return nil, fmt.Errorf("echo of %d bytes: %w", size, err)
		}
	}
	return facts{"bytes": sizes}, nil
}

func (d *dialer) echoBytes(size int) error {
	s, err := d.open(echoProtocol)
	if err != nil {
		return err
	}
	defer s.Reset()
	sent := make([]byte, size)
	rand.Read(sent)
	// Written while it is read: an echo that nobody reads stops when the windows are full.
	var writing errgroup.Group
	writing.Go(func() error {
		if _, err := s.Write(sent); err != nil {
			return err
		}
		return s.CloseWrite()
	})
	received, err := io.ReadAll(s)
	if err != nil {
		return err
	}
	if err := writing.Wait(); err != nil {
		return err
	}
	if !bytes.Equal(sent, received) {
		return fmt.Errorf("it came back changed, with %d bytes", len(received))
	}
	return nil
}

func (d *dialer) bulkUp() (facts, error) {
	return d.upload(sinkProtocol)
}

func (d *dialer) slow() (facts, error) {
	return d.upload(slowProtocol)
}

func (d *dialer) upload(id protocol.ID) (facts, error) {
	s, err := d.open(id)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	start := time.Now()
	digest := sha256.New()
	if err := writePattern(io.MultiWriter(s, digest), transferBytes); err != nil {
		return nil, err
	}
	if err := s.CloseWrite(); err != nil {
		return nil, err
	}
	reply, err := io.ReadAll(s)
	if err != nil {
		return nil, err
	}
	if len(reply) != sha256.Size+8 {
		return nil, fmt.Errorf("the reply has %d bytes, not %d", len(reply), sha256.Size+8)
	}
	if count := binary.BigEndian.Uint64(reply[sha256.Size:]); count != transferBytes {
		return nil, fmt.Errorf("the peer counts %d bytes, not %d", count, transferBytes)
	}
	if !bytes.Equal(reply[:sha256.Size], digest.Sum(nil)) {
		return nil, errors.New("the peer has another SHA-256")
	}
	return facts{"bytes": transferBytes, "wall_s": time.Since(start).Seconds()}, nil
}

func (d *dialer) bulkDown() (facts, error) {
	return d.download(func(s network.Stream) io.Reader { return s })
}

func (d *dialer) slowReader() (facts, error) {
	return d.download(func(s network.Stream) io.Reader { return &slowReader{source: s} })
}

func (d *dialer) download(reader func(network.Stream) io.Reader) (facts, error) {
	s, err := d.open(sourceProtocol)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	start := time.Now()
	if _, err := s.Write(binary.BigEndian.AppendUint64(nil, transferBytes)); err != nil {
		return nil, err
	}
	if err := s.CloseWrite(); err != nil {
		return nil, err
	}
	checker := &patternChecker{}
	if _, err := io.Copy(checker, reader(s)); err != nil {
		return nil, err
	}
	if checker.count != transferBytes {
		return nil, fmt.Errorf("%d bytes came, not %d", checker.count, transferBytes)
	}
	return facts{"bytes": transferBytes, "wall_s": time.Since(start).Seconds()}, nil
}
