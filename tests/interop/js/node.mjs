import { readFileSync } from 'node:fs'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const IDENTIFY_TIMEOUT_MS = 10_000
/** More than any run opens: limits must not be what is measured. */
const PLENTY = 65_536

/** Per protocol: the defaults are 32 inbound and 64 outbound streams a connection. */
export const STREAM_LIMITS = { maxInboundStreams: PLENTY, maxOutboundStreams: PLENTY }

const TCP = { noDelay: true, backlog: 4096 }

const YAMUX = {
  maxInboundStreams: PLENTY,
  maxOutboundStreams: PLENTY,
  // Streams that come before its own end of the connection is set up; by default the 11th ends the connection.
  maxEarlyStreams: PLENTY,
  // A paused stream still gets what its window allows, and is reset when that exceeds its read buffer. By default
  // windows grow to 16 MiB and the buffer has 4 MiB.
  streamOptions: { maxStreamWindowSize: 16 << 20, maxReadBufferLength: 16 << 20 }
}

const CONNECTION_MANAGER = {
  maxConnections: PLENTY,
  maxParallelDials: 1024,
  maxDialQueueLength: PLENTY,
  inboundConnectionThreshold: PLENTY,
  maxIncomingPendingConnections: PLENTY
}

/** A logger without a `debug` instance for every scope of every stream, which is a good part of what a stream costs. */
function silentLogger () {
  const log = () => {}
  log.error = () => {}
  log.trace = () => {}
  log.newScope = () => log
  return { forComponent: () => log }
}

/**
 * A started node with an Ed25519 key of its own.
 * @param {object} options
 * @param {boolean} options.listen on 127.0.0.1, any free port
 * @param {boolean} options.bench without logger (otherwise: the variable DEBUG) and without the ping of each
 *   connection every 10 s
 */
export function createNode ({ listen, bench }) {
  return createLibp2p({
    addresses: { listen: listen ? ['/ip4/127.0.0.1/tcp/0'] : [] },
    transports: [tcp({ backlog: TCP.backlog, dialOpts: { noDelay: TCP.noDelay }, listenOpts: { noDelay: TCP.noDelay } })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux(YAMUX)],
    services: { identify: identify(), ping: ping() },
    connectionManager: CONNECTION_MANAGER,
    ...(bench && { connectionMonitor: { enabled: false }, logger: silentLogger() })
  })
}

/** Opens a stream for one protocol. */
export function openStream (connection, protocol) {
  return connection.newStream([protocol], { maxOutboundStreams: PLENTY })
}

/**
 * Dials and waits until the identify that js-libp2p starts on each new connection has its answer. It must not be asked
 * for a second time meanwhile: the other side takes one identify stream at a time.
 * @returns {Promise<{connection: object, identity: object}>}
 */
export async function dialIdentified (node, address) {
  const identified = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no identify within 10 s')), IDENTIFY_TIMEOUT_MS)
    node.addEventListener('peer:identify', event => {
      clearTimeout(timer)
      resolve(event.detail)
    }, { once: true })
  })
  const [connection, identity] = await Promise.all([node.dial(multiaddr(address)), identified])
  return { connection, identity }
}

/** What the benchmark says about this stack: versions and every value that differs from the defaults. */
export function settings () {
  const { dependencies } = JSON.parse(readFileSync(new URL('package.json', import.meta.url)))
  return {
    stack: 'js-libp2p',
    node: process.version,
    versions: dependencies,
    tcp: TCP,
    yamux: YAMUX,
    connection_manager: CONNECTION_MANAGER,
    protocol_stream_limits: STREAM_LIMITS,
    connection_monitor: false,
    logger: 'none',
    cpu_s: 'without the collections that a usage command forces',
    burst: 'one stream.send() per message'
  }
}
