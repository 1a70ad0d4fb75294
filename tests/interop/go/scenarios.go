package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

const (
	scenarioTimeout = 50 * time.Second // below the limit of the tests, so that the error tells where it hung
	pingCount       = 10
	streamCount     = 200
	halfBytes       = 1000
)

var scenarios = map[string]func(*dialer) (facts, error){
	"identify":    (*dialer).identify,
	"ping":        (*dialer).ping,
	"echo":        (*dialer).echo,
	"bulk-up":     (*dialer).bulkUp,
	"bulk-down":   (*dialer).bulkDown,
	"streams":     (*dialer).streams,
	"half-close":  (*dialer).halfClose,
	"reset":       (*dialer).reset,
	"slow":        (*dialer).slow,
	"slow-reader": (*dialer).slowReader,
}

func dial(address, scenario string, stdout io.Writer) int {
	result, err := runScenario(address, scenario)
	if err != nil {
		_ = printLine(stdout, facts{"ok": false, "error": err.Error()})
		return exitFailed
	}
	result["ok"] = true
	if err := printLine(stdout, result); err != nil {
		return exitFailed
	}
	return exitOK
}

func runScenario(address, name string) (facts, error) {
	scenario, ok := scenarios[name]
	if !ok {
		return nil, fmt.Errorf("no scenario %q", name)
	}
	remote, err := peer.AddrInfoFromString(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	h, err := newDialer()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	ctx, cancel := context.WithTimeout(context.Background(), scenarioTimeout)
	defer cancel()
	return scenario(&dialer{ctx: ctx, host: h, remote: *remote})
}

// dialer is a fresh host with the peer that a scenario runs against.
type dialer struct {
	ctx    context.Context
	host   host.Host
	remote peer.AddrInfo
}

// open is a new stream with the scenario's deadline on every read and write.
func (d *dialer) open(id protocol.ID) (network.Stream, error) {
	if err := d.host.Connect(d.ctx, d.remote); err != nil {
		return nil, err
	}
	s, err := d.host.NewStream(d.ctx, d.remote.ID, id)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", id, err)
	}
	deadline, _ := d.ctx.Deadline()
	return s, s.SetDeadline(deadline)
}

func (d *dialer) identify() (facts, error) {
	events := []any{new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerIdentificationFailed)}
	subscription, err := d.host.EventBus().Subscribe(events)
	if err != nil {
		return nil, err
	}
	defer subscription.Close()
	if err := d.host.Connect(d.ctx, d.remote); err != nil {
		return nil, err
	}
	select {
	case received := <-subscription.Out():
		switch told := received.(type) {
		case event.EvtPeerIdentificationCompleted:
			return identifyFacts(told)
		case event.EvtPeerIdentificationFailed:
			return nil, fmt.Errorf("identify: %w", told.Reason)
		default:
			return nil, fmt.Errorf("identify: unexpected event %T", received)
		}
	case <-d.ctx.Done():
		return nil, fmt.Errorf("identify: %w", d.ctx.Err())
	}
}

func identifyFacts(told event.EvtPeerIdentificationCompleted) (facts, error) {
	served := []protocol.ID{
		ping.ID, echoProtocol, sourceProtocol, sinkProtocol, slowProtocol, halfProtocol, resetProtocol,
	}
	for _, id := range served {
		if !slices.Contains(told.Protocols, id) {
			return nil, fmt.Errorf("identify does not tell of %s, but of %v", id, told.Protocols)
		}
	}
	slices.Sort(told.Protocols)
	return facts{"protocols": told.Protocols, "agent": told.AgentVersion}, nil
}

func (d *dialer) ping() (facts, error) {
	s, err := d.open(ping.ID)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	sent, received := make([]byte, ping.PingSize), make([]byte, ping.PingSize)
	roundTrips := make([]time.Duration, 0, pingCount)
	for i := range pingCount {
		rand.Read(sent)
		start := time.Now()
		if _, err := s.Write(sent); err != nil {
			return nil, fmt.Errorf("ping %d: %w", i, err)
		}
		if _, err := io.ReadFull(s, received); err != nil {
			return nil, fmt.Errorf("ping %d: %w", i, err)
		}
		roundTrips = append(roundTrips, time.Since(start))
		if !bytes.Equal(sent, received) {
			return nil, fmt.Errorf("ping %d came back changed", i)
		}
	}
	return facts{"rtt_us": percentiles(roundTrips)["p50"]}, s.Close()
}

func (d *dialer) streams() (facts, error) {
	opened := make([]network.Stream, 0, streamCount)
	defer func() {
		for _, s := range opened {
			_ = s.Reset()
		}
	}()
	sent := make([][]byte, streamCount)
	for i := range sent {
		s, err := d.open(echoProtocol)
		if err != nil {
			return nil, fmt.Errorf("stream %d: %w", i, err)
		}
		opened = append(opened, s)
		sent[i] = make([]byte, 1024)
		rand.Read(sent[i])
		if _, err := s.Write(sent[i]); err != nil {
			return nil, fmt.Errorf("stream %d: %w", i, err)
		}
	}
	received := make([]byte, 1024)
	for i, s := range opened {
		if _, err := io.ReadFull(s, received); err != nil {
			return nil, fmt.Errorf("stream %d: %w", i, err)
		}
		if !bytes.Equal(sent[i], received) {
			return nil, fmt.Errorf("stream %d came back changed", i)
		}
	}
	for i, s := range opened {
		if err := s.CloseWrite(); err != nil {
			return nil, fmt.Errorf("stream %d: %w", i, err)
		}
	}
	for i, s := range opened {
		if count, err := s.Read(received); count != 0 || err != io.EOF {
			return nil, fmt.Errorf("stream %d: %d bytes and %v, not the end", i, count, err)
		}
	}
	return facts{"streams": len(opened)}, nil
}

func (d *dialer) halfClose() (facts, error) {
	s, err := d.open(halfProtocol)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	if _, err := s.Write(make([]byte, halfBytes)); err != nil {
		return nil, err
	}
	if err := s.CloseWrite(); err != nil {
		return nil, err
	}
	reply, err := io.ReadAll(s)
	if err != nil {
		return nil, err
	}
	if want := strings.Repeat(fmt.Sprint(halfBytes), 3); string(reply) != want {
		return nil, fmt.Errorf("%q after the half-close, not %q", reply, want)
	}
	return facts{"reply": string(reply)}, nil
}

func (d *dialer) reset() (facts, error) {
	s, err := d.open(resetProtocol)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	if _, err := s.Write([]byte{1}); err != nil {
		return nil, err
	}
	count, err := s.Read(make([]byte, 1))
	if count != 0 || !errors.Is(err, network.ErrReset) {
		return nil, fmt.Errorf("%d bytes and %v, not a reset", count, err)
	}
	// The end of the whole connection would reset the stream too.
	if s.Conn().IsClosed() {
		return nil, fmt.Errorf("the peer ended the connection, not the stream alone: %w", err)
	}
	return facts{"read_error": err.Error()}, nil
}
