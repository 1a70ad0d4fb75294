package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	serverKnownTimeout = 20 * time.Second
	serverKnownPause   = 20 * time.Millisecond
)

// newAutonat is AutoNAT v2 as go-libp2p ships it, on a host that listens, for addresses of this machine too.
func newAutonat() (host.Host, *autonatv2.AutoNAT, error) {
	dialer, err := newDialer()
	if err != nil {
		return nil, nil, err
	}
	h, err := newListener()
	if err != nil {
		return nil, nil, err
	}
	autonat, err := autonatv2.New(dialer, autonatv2.AllowPrivateAddrs)
	if err != nil {
		return nil, nil, err
	}
	return h, autonat, autonat.Start(h)
}

// autonatServe dials others back until stdin ends.
func autonatServe(stdin io.Reader, stdout io.Writer) error {
	h, autonat, err := newAutonat()
	if err != nil {
		return err
	}
	defer h.Close()
	defer autonat.Close()
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

// autonatCheck has a server dial back the addresses, or, when there are none, those that it listens on.
func autonatCheck(server string, texts []string, stdout io.Writer) error {
	h, autonat, err := newAutonat()
	if err != nil {
		return err
	}
	defer h.Close()
	defer autonat.Close()
	addresses := h.Network().ListenAddresses()
	if len(texts) > 0 {
		addresses = nil
	}
	for _, text := range texts {
		address, err := ma.NewMultiaddr(text)
		if err != nil {
			return err
		}
		addresses = append(addresses, address)
	}
	result, err := askForDialBack(h, autonat, server, addresses)
	if err != nil {
		return printLine(stdout, failure(err))
	}
	return printLine(stdout, facts{
		"ok":           true,
		"reachability": result.Reachability.String(),
		"index":        result.Idx,
		"refused":      result.AllAddrsRefused,
		"connections":  len(h.Network().Conns()),
	})
}

func askForDialBack(
	h host.Host, autonat *autonatv2.AutoNAT, text string, addresses []ma.Multiaddr,
) (autonatv2.Result, error) {
	server, err := peer.AddrInfoFromString(text)
	if err != nil {
		return autonatv2.Result{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	if err := h.Connect(ctx, *server); err != nil {
		return autonatv2.Result{}, fmt.Errorf("connect: %w", err)
	}
	requests := make([]autonatv2.Request, len(addresses))
	for i, address := range addresses {
		requests[i] = autonatv2.Request{Addr: address, SendDialData: true}
	}
	// It takes the server for one as soon as an event of identify has been handled.
	for deadline := time.Now().Add(serverKnownTimeout); ; time.Sleep(serverKnownPause) {
		result, err := autonat.GetReachability(ctx, requests)
		if !errors.Is(err, autonatv2.ErrNoPeers) || time.Now().After(deadline) {
			return result, err
		}
	}
}
