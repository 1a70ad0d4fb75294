package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const halfPause = 100 * time.Millisecond

func serve(stdin io.Reader, stdout io.Writer) error {
	h, err := newListener()
	if err != nil {
		return err
	}
	defer h.Close()
	serveInterop(h)
	addresses, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: h.ID(), Addrs: h.Network().ListenAddresses()})
	if err != nil {
		return err
	}
	if err := printLine(stdout, facts{"peer_id": h.ID(), "addresses": addresses}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// serveInterop registers the handlers. go-libp2p itself serves identify and ping.
func serveInterop(h host.Host) {
	handle(h, echoProtocol, serveEcho)
	handle(h, sourceProtocol, serveSource)
	handle(h, sinkProtocol, func(s network.Stream) error { return serveSink(s, s) })
	handle(h, slowProtocol, func(s network.Stream) error { return serveSink(s, &slowReader{source: s}) })
	handle(h, halfProtocol, serveHalf)
	handle(h, resetProtocol, serveReset)
}

func serveEcho(s network.Stream) error {
	_, err := io.Copy(s, s)
	return err
}

func serveSource(s network.Stream) error {
	var request [8]byte
	if _, err := io.ReadFull(s, request[:]); err != nil {
		return err
	}
	return writePattern(s, binary.BigEndian.Uint64(request[:]))
}

func serveSink(s network.Stream, source io.Reader) error {
	digest := sha256.New()
	count, err := io.Copy(digest, source)
	if err != nil {
		return err
	}
	_, err = s.Write(binary.BigEndian.AppendUint64(digest.Sum(nil), uint64(count)))
	return err
}

func serveHalf(s network.Stream) error {
	count, err := io.Copy(io.Discard, s)
	if err != nil {
		return err
	}
	for i := range 3 {
		if i > 0 {
			time.Sleep(halfPause)
		}
		if _, err := fmt.Fprintf(s, "%d", count); err != nil {
			return err
		}
	}
	return nil
}

func serveReset(s network.Stream) error {
	var one [1]byte
	if _, err := io.ReadFull(s, one[:]); err != nil {
		return err
	}
	return s.Reset()
}
