package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// served is the address of a new host that serves, which ends with the test.
func served(t *testing.T, register func(host.Host)) string {
	t.Helper()
	h, err := newListener()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	register(h)
	address, err := listenAddress(h)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func TestEveryScenario(t *testing.T) {
	address := served(t, serveInterop)
	for name := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := runScenario(address, name); err != nil {
				t.Error(err)
			}
		})
	}
}

// Each scenario must notice the peer that its name accuses.
func TestAScenarioFailsOnAWrongPeer(t *testing.T) {
	wrong := map[string]struct {
		id      protocol.ID
		handler func(network.Stream) error
		says    string
	}{
		"reset": {resetProtocol, func(network.Stream) error { return nil }, "not a reset"},
		"half-close": {halfProtocol, func(s network.Stream) error {
			_, err := s.Write([]byte("1000"))
			return err
		}, "after the half-close"},
		"bulk-down": {sourceProtocol, func(s network.Stream) error {
			_, err := s.Write([]byte{0, 1, 3})
			return err
		}, "pattern is broken"},
		"bulk-up": {sinkProtocol, func(s network.Stream) error {
			if _, err := io.Copy(io.Discard, s); err != nil {
				return err
			}
			_, err := s.Write(make([]byte, 40))
			return err
		}, "counts 0 bytes"},
		"streams": {echoProtocol, func(s network.Stream) error {
			_, err := s.Write(make([]byte, 1024))
			return err
		}, "came back changed"},
	}
	for name, peer := range wrong {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := served(t, func(h host.Host) { handle(h, peer.id, peer.handler) })
			if _, err := runScenario(address, name); err == nil || !strings.Contains(err.Error(), peer.says) {
				t.Errorf("%v does not say %q", err, peer.says)
			}
		})
	}
}

func TestEveryBenchmarkCommand(t *testing.T) {
	for _, coalesce := range []bool{false, true} {
		address := served(t, func(h host.Host) { serveBench(h, coalesce) })
		answers := answersOf(t, address,
			`{"cmd":"warmup"}`,
			`{"cmd":"run","work":"verify"}`,
			`{"cmd":"run","work":"unary","concurrency":4,"seconds":0.2}`,
			`{"cmd":"run","work":"stream_burst","messages":1000}`,
			`{"cmd":"run","work":"stream_paced","messages":10}`,
			`{"cmd":"run","work":"bulk","frames":20}`,
			`{"cmd":"run","work":"connect","count":3}`,
			`{"cmd":"hold_connections","count":3}`,
			`{"cmd":"release"}`,
			`{"cmd":"hold_streams","count":20}`,
			`{"cmd":"release"}`,
			`{"cmd":"run","work":"verify"}`,
		)
		for i, answer := range answers {
			if answer["ok"] != true {
				t.Errorf("command %d: %v", i, answer)
			}
		}
		for i, operations := range map[int]float64{3: 1000, 4: 10, 5: 20, 6: 3} {
			if answers[i]["ops"] != operations {
				t.Errorf("command %d: %v operations, not %v", i, answers[i]["ops"], operations)
			}
		}
	}
}

func TestVerifyNoticesAWrongPayload(t *testing.T) {
	address := served(t, func(h host.Host) {
		handle(h, unaryProtocol, func(s network.Stream) error {
			_, err := s.Write(frame(make([]byte, replyBytes)))
			return err
		})
	})
	answers := answersOf(t, address, `{"cmd":"run","work":"verify"}`, `{"cmd":"run","work":"nonsense"}`, `nonsense`)
	for i, says := range []string{"SHA-256", "no work", "invalid character"} {
		if message, _ := answers[i]["error"].(string); !strings.Contains(message, says) {
			t.Errorf("%v does not say %q", answers[i], says)
		}
	}
}

func answersOf(t *testing.T, address string, commands ...string) []map[string]any {
	t.Helper()
	var stdout bytes.Buffer
	if err := benchDial(address, strings.NewReader(strings.Join(commands, "\n")), &stdout); err != nil {
		t.Fatal(err)
	}
	answers := make([]map[string]any, len(commands))
	decoder := json.NewDecoder(&stdout)
	for i := range answers {
		if err := decoder.Decode(&answers[i]); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
	return answers
}
