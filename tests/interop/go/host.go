package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

// newListener is a host on a free port of 127.0.0.1; newDialer is one that only dials.
func newListener() (host.Host, error) {
	return newHost(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
}

func newDialer() (host.Host, error) {
	return newHost(libp2p.NoListenAddrs)
}

func newHost(listening libp2p.Option) (host.Host, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	// The defaults scale with memory and refuse what a benchmark opens; the default connection manager trims above 192.
	limiter := rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits)
	resources, err := rcmgr.NewResourceManager(limiter, rcmgr.WithMetricsDisabled())
	if err != nil {
		return nil, err
	}
	return libp2p.New(
		listening,
		libp2p.Identity(key),
		libp2p.UserAgent("hostmesh-interop-go"),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(connmgr.NullConnMgr{}),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.DisableIdentifyAddressDiscovery(),
	)
}

// settings says what a benchmark of this peer ran on and how it was tuned.
func settings() facts {
	versions := facts{"go": runtime.Version()}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			switch module.Path {
			case "github.com/libp2p/go-libp2p", "github.com/libp2p/go-yamux/v5", "github.com/flynn/noise":
				versions[module.Path] = module.Version
			}
		}
	}
	muxer := yamux.DefaultTransport.Config()
	return facts{
		"versions":                       versions,
		"gomaxprocs":                     runtime.GOMAXPROCS(0),
		"stack":                          "tcp, noise, yamux",
		"tcp_nodelay":                    true, // package net sets it on every connection
		"resource_limits":                "rcmgr.InfiniteLimits",
		"connection_manager":             "connmgr.NullConnMgr",
		"metrics":                        false,
		"yamux_initial_window_bytes":     muxer.InitialStreamWindowSize,
		"yamux_max_window_bytes":         muxer.MaxStreamWindowSize,
		"yamux_max_message_bytes":        muxer.MaxMessageSize,
		"yamux_coalesces_writes":         false, // go-yamux has it switched off: one frame, one TCP write
		"protocol_known_before_a_stream": true,  // by identify; negotiated lazily, without a round trip
	}
}

// listenAddress is the first address that h listens on, with its peer id.
func listenAddress(h host.Host) (string, error) {
	addresses, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: h.ID(), Addrs: h.Network().ListenAddresses()})
	if err != nil {
		return "", err
	}
	if len(addresses) == 0 {
		return "", fmt.Errorf("%s listens on no address", h.ID())
	}
	return addresses[0].String(), nil
}

// handle serves a protocol: what the handler returns decides between closing the stream and resetting it.
func handle(h host.Host, id protocol.ID, handler func(network.Stream) error) {
	h.SetStreamHandler(id, func(s network.Stream) {
		if err := handler(s); err != nil {
			fmt.Fprintf(os.Stderr, "peer: %s: %v\n", id, err)
			_ = s.Reset()
			return
		}
		_ = s.Close()
	})
}
