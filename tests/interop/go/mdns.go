package main

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

const answerTimeout = 15 * time.Second

// finder tells of the peers that mDNS finds, and of what they answer.
type finder struct {
	host   host.Host
	stdout io.Writer
	mutex  sync.Mutex // one line at a time
}

func (f *finder) tell(line facts) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	_ = printLine(f.stdout, line) // nobody reads any more: the process is about to end
}

// HandlePeerFound connects to a peer at the addresses that mDNS gave and pings it. mDNS calls it in a goroutine of its own.
func (f *finder) HandlePeerFound(found peer.AddrInfo) {
	f.tell(facts{"event": "found", "peer_id": found.ID, "addresses": found.Addrs})
	answer, err := f.answerOf(found)
	if err != nil {
		f.tell(facts{"event": "failed", "peer_id": found.ID, "error": err.Error()})
		return
	}
	f.tell(answer)
}

func (f *finder) answerOf(found peer.AddrInfo) (facts, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	if err := f.host.Connect(ctx, found); err != nil { // returns after identify
		return nil, err
	}
	result := <-ping.Ping(ctx, f.host, found.ID)
	if result.Error != nil {
		return nil, result.Error
	}
	agent, err := f.host.Peerstore().Get(found.ID, "AgentVersion")
	if err != nil {
		return nil, err
	}
	protocols, err := f.host.Peerstore().GetProtocols(found.ID)
	if err != nil {
		return nil, err
	}
	return facts{
		"event":     "answered",
		"peer_id":   found.ID,
		"address":   f.host.Network().ConnsToPeer(found.ID)[0].RemoteMultiaddr(),
		"rtt_ms":    float64(result.RTT.Microseconds()) / 1e3,
		"agent":     agent,
		"protocols": protocols,
	}, nil
}

// mdnsServe announces a host and looks for others, with go-libp2p's defaults, until stdin ends.
func mdnsServe(stdin io.Reader, stdout io.Writer) error {
	h, err := newHost(libp2p.ListenAddrStrings("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"))
	if err != nil {
		return err
	}
	defer h.Close()
	f := &finder{host: h, stdout: stdout}
	service := mdns.NewMdnsService(h, "", f)
	if err := service.Start(); err != nil {
		return err
	}
	addresses, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
	if err != nil {
		return err
	}
	f.tell(facts{"event": "ready", "peer_id": h.ID(), "addresses": addresses})
	if _, err := io.Copy(io.Discard, stdin); err != nil {
		return err
	}
	if err := service.Close(); err != nil {
		return err
	}
	f.tell(facts{"event": "stopped"})
	return nil
}
