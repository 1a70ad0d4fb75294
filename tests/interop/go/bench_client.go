package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	warmupCalls = 200
	// connectTimeout bounds a dial with its identify; runs are bounded by whoever started this process.
	connectTimeout = 30 * time.Second
)

func benchDial(address string, stdin io.Reader, stdout io.Writer) error {
	server, err := peer.AddrInfoFromString(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	client := &benchClient{server: *server}
	defer client.close()
	return answerLines(stdin, stdout, func(command clientCommand) facts {
		answer, err := client.answer(command)
		if err != nil {
			return failure(err)
		}
		return answer
	})
}

type clientCommand struct {
	Command     string  `json:"cmd"`
	Work        string  `json:"work"`
	Concurrency int     `json:"concurrency"`
	Seconds     float64 `json:"seconds"`
	Messages    int     `json:"messages"`
	Frames      int     `json:"frames"`
	Count       int     `json:"count"`
}

// benchClient has the one connection that the runs use, and what it holds open.
type benchClient struct {
	server      peer.AddrInfo
	host        host.Host // nil before the first command that needs it
	heldHosts   []host.Host
	heldStreams []network.Stream
}

func (c *benchClient) answer(command clientCommand) (facts, error) {
	done := facts{"ok": true}
	switch command.Command {
	case "warmup":
		return done, c.warmup()
	case "run":
		return c.run(command)
	case "hold_connections":
		return done, c.holdConnections(command.Count)
	case "hold_streams":
		return done, c.holdStreams(command.Count)
	case "release":
		c.release()
		return done, nil
	default:
		return nil, fmt.Errorf("no command %q", command.Command)
	}
}

func (c *benchClient) run(command clientCommand) (facts, error) {
	if command.Work == "connect" {
		return c.runConnect(command.Count)
	}
	calls, err := c.calls()
	if err != nil {
		return nil, err
	}
	switch command.Work {
	case "unary":
		return calls.runUnary(command.Concurrency, time.Duration(command.Seconds*float64(time.Second)))
	case "stream_burst":
		return measured(func() (int, error) {
			return command.Messages, calls.stream(burstProtocol, command.Messages, messageBytes, nil)
		})
	case "stream_paced":
		return calls.runPaced(command.Messages)
	case "bulk":
		return calls.runBulk(command.Frames)
	case "verify":
		return facts{"ok": true}, calls.verify()
	default:
		return nil, fmt.Errorf("no work %q", command.Work)
	}
}

// calls is the one connection, opened by the first command that needs it.
func (c *benchClient) calls() (*caller, error) {
	if c.host == nil {
		h, err := connect(c.server)
		if err != nil {
			return nil, err
		}
		c.host = h
	}
	return &caller{ctx: context.Background(), host: c.host, server: c.server.ID}, nil
}

func (c *benchClient) warmup() error {
	calls, err := c.calls()
	if err != nil {
		return err
	}
	for range warmupCalls {
		if err := calls.unary(nil); err != nil {
			return err
		}
		if err := calls.stream(burstProtocol, 1, messageBytes, nil); err != nil {
			return err
		}
		if err := calls.stream(pacedProtocol, 1, messageBytes, nil); err != nil {
			return err
		}
	}
	return nil
}

// connect is a new host with an identity of its own, connected; Connect returns after identify.
func connect(server peer.AddrInfo) (host.Host, error) {
	h, err := newDialer()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	if err := h.Connect(ctx, server); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (c *benchClient) runConnect(count int) (facts, error) {
	latencies := make([]time.Duration, 0, count)
	result, err := measured(func() (int, error) {
		for range count {
			latency, err := c.connectOnce()
			if err != nil {
				return 0, err
			}
			latencies = append(latencies, latency)
		}
		return count, nil
	})
	if err != nil {
		return nil, err
	}
	result["latency_us"] = percentiles(latencies)
	return result, nil
}

// connectOnce is a host's life; the latency is from its dial to the reply.
func (c *benchClient) connectOnce() (time.Duration, error) {
	h, err := newDialer()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	start := time.Now()
	err = h.Connect(ctx, c.server)
	if err == nil {
		err = (&caller{ctx: ctx, host: h, server: c.server.ID}).unary(nil)
	}
	latency := time.Since(start)
	return latency, errors.Join(err, h.Close())
}

func (c *benchClient) holdConnections(count int) error {
	for i := range count {
		h, err := connect(c.server)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		c.heldHosts = append(c.heldHosts, h)
		if err := (&caller{ctx: context.Background(), host: h, server: c.server.ID}).unary(nil); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	return nil
}

func (c *benchClient) holdStreams(count int) error {
	calls, err := c.calls()
	if err != nil {
		return err
	}
	for i := range count {
		s, err := calls.hold()
		if err != nil {
			return fmt.Errorf("stream %d: %w", i, err)
		}
		c.heldStreams = append(c.heldStreams, s)
	}
	return nil
}

func (c *benchClient) release() {
	for _, s := range c.heldStreams {
		_ = s.Reset()
	}
	for _, h := range c.heldHosts {
		_ = h.Close()
	}
	c.heldStreams, c.heldHosts = nil, nil
}

func (c *benchClient) close() {
	c.release()
	if c.host != nil {
		_ = c.host.Close()
	}
}
