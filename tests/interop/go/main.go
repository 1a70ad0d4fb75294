// Command peer is a go-libp2p peer for hostmesh's interoperability tests and benchmarks.
//
// It speaks Noise and Yamux over TCP on 127.0.0.1 and nothing else: no relay, no NAT, no QUIC;
// as `peer mdns` on all addresses, with mDNS.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

const usage = `usage:
  peer serve                        serve the interoperability protocols until stdin ends
  peer dial ADDRESS SCENARIO        run one scenario against a peer that serves them
  peer autonat serve                dial others back (AutoNAT v2) until stdin ends
  peer autonat check SERVER [ADDRESS ...]  have a server dial the addresses, or one's own
  peer mdns                         announce itself on the link and tell whom it finds there until stdin ends
  peer bench-server [-coalesce]     serve the benchmark protocols; answers JSON lines on stdin
  peer bench-client ADDRESS         run benchmark commands, JSON lines on stdin
`

// Exit codes: a scenario that failed is told apart from a command that could not be understood.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout))
}

func run(args []string, stdin io.Reader, stdout io.Writer) int {
	var err error
	switch {
	case len(args) == 1 && args[0] == "serve":
		err = serve(stdin, stdout)
	case len(args) == 3 && args[0] == "dial":
		return dial(args[1], args[2], stdout)
	case len(args) == 2 && args[0] == "autonat" && args[1] == "serve":
		err = autonatServe(stdin, stdout)
	case len(args) >= 3 && args[0] == "autonat" && args[1] == "check":
		err = autonatCheck(args[2], args[3:], stdout)
	case len(args) == 1 && args[0] == "mdns":
		err = mdnsServe(stdin, stdout)
	case len(args) >= 1 && args[0] == "bench-server":
		flags := flag.NewFlagSet("bench-server", flag.ExitOnError)
		coalesce := flags.Bool("coalesce", false, "gather burst messages into 64 KiB writes")
		_ = flags.Parse(args[1:]) // ExitOnError: it does not return an error
		err = benchServe(*coalesce, stdin, stdout)
	case len(args) == 2 && args[0] == "bench-client":
		err = benchDial(args[1], stdin, stdout)
	default:
		fmt.Fprint(os.Stderr, usage)
		return exitUsage
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		return exitFailed
	}
	return exitOK
}

// facts are the members of one JSON line.
type facts map[string]any

func printLine(w io.Writer, line facts) error {
	return json.NewEncoder(w).Encode(line)
}
