import { identify } from '@libp2p/identify'
import { mdns } from '@libp2p/mdns'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { errorText, printLine } from './json_lines.mjs'

const ANSWER_TIMEOUT_MS = 15_000

/** Connects to a peer at the addresses that mDNS gave the peer store, pings it, and has what it said in identify. */
async function answerOf (node, peerId) {
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS)
  const connection = await node.dial(peerId, { signal })
  const rttMs = await node.services.ping.ping(peerId, { signal })
  const { agentVersion, protocols } = await node.services.identify.identify(connection, { signal })
  return { address: String(connection.remoteAddr), rtt_ms: rttMs, agent: agentVersion, protocols }
}

/** Announces itself and looks for others, with js-libp2p's defaults, until stdin ends; tells whom it finds. */
export async function mdnsUntilEof () {
  const node = await createLibp2p({
    addresses: { listen: ['/ip4/0.0.0.0/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    peerDiscovery: [mdns()],
    // The asking is done here, once; the node's own asking of each new connection would be in its way.
    services: { identify: identify({ runOnConnectionOpen: false }), ping: ping() }
  })
  node.addEventListener('peer:discovery', async ({ detail }) => {
    const peer = { peer_id: String(detail.id) }
    printLine({ event: 'found', ...peer, addresses: detail.multiaddrs.map(String) })
    try {
      printLine({ event: 'answered', ...peer, ...await answerOf(node, detail.id) })
    } catch (error) {
      printLine({ event: 'failed', ...peer, error: errorText(error) })
    }
  })
  printLine({ event: 'ready', peer_id: String(node.peerId), addresses: node.getMultiaddrs().map(String) })
  process.stdin.resume()
  await new Promise(resolve => process.stdin.once('end', resolve))
  await node.stop()
  printLine({ event: 'stopped' })
}
