import { identify } from '@libp2p/identify'
import { mdns } from '@libp2p/mdns'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { errorText, printLine } from './json_lines.mjs'

const ANSWER_TIMEOUT_MS = 15_000

/** Connects to a peer at the addresses that mDNS gave, pings it, and asks it who it is. */
async function answerOf (node, { id, multiaddrs }) {
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS)
  const connection = await node.dial(multiaddrs.map(address => address.encapsulate(`/p2p/${id}`)), { signal })
  const rttMs = await node.services.ping.ping(id, { signal })
  const { agentVersion, protocols } = await node.services.identify.identify(connection, { signal })
  return { address: String(connection.remoteAddr), rtt_ms: rttMs, agent: agentVersion, protocols }
}

/** Announces itself and looks for others, with js-libp2p's defaults, until stdin ends; tells whom it finds. */
export async function mdnsUntilEof () {
  let node = null
  const onPeer = async ({ detail }) => {
    const peer = { peer_id: String(detail.id) }
    printLine({ event: 'found', ...peer, addresses: detail.multiaddrs.map(String) })
    try {
      printLine({ event: 'answered', ...peer, ...await answerOf(node, detail) })
    } catch (error) {
      printLine({ event: 'failed', ...peer, error: errorText(error) })
    }
  }
  node = await createLibp2p({
    addresses: { listen: ['/ip4/0.0.0.0/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    peerDiscovery: [components => {
      const discovery = mdns()(components)
      // The node's own event of this kind comes also when an unknown peer dials.
      discovery.addEventListener('peer', onPeer)
      return discovery
    }],
    // The asking is done here, once; the node's own asking of each new connection would be in its way.
    services: { identify: identify({ runOnConnectionOpen: false }), ping: ping() },
    start: false
  })
  await node.start()
  printLine({ event: 'ready', peer_id: String(node.peerId), addresses: node.getMultiaddrs().map(String) })
  process.stdin.resume()
  await new Promise(resolve => process.stdin.once('end', resolve))
  await node.stop()
  printLine({ event: 'stopped' })
}
