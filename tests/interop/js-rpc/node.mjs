// The libp2p node, and streams to the one peer that it talks to.

import { noise } from '@libp2p/noise'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

import { ConnectionLostError, DialError, ProtocolNotSupportedError } from './errors.mjs'

/**
 * libp2p resets a stream of which 4 MiB are unread. A window that stays well below lets a caller leave as much as it
 * may be sent unread for as long as it likes.
 */
const MAX_WINDOW = 1024 * 1024

/** The words of libp2p for: no more streams. */
const NO_MORE_STREAMS = new Set(['TooManyOutboundProtocolStreamsError'])

export class Peer {
  #node
  #address

  constructor (node, address) {
    this.#node = node
    this.#address = multiaddr(address)
  }

  static async create (address) {
    const node = await createLibp2p({
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux({ streamOptions: { maxStreamWindowSize: MAX_WINDOW } })],
      services: { identify: identify(), ping: ping() },
      // Yamux has pings of its own; a machine that is only slow must not cost the connection.
      connectionMonitor: { enabled: false }
    })
    return new Peer(node, address)
  }

  /**
   * A stream for the first of these protocol ids that the peer serves, over the connection that is there or a new one.
   * Proposing them one after the other needs nothing of what identify tells: js-libp2p waits for the agreement in any
   * case.
   */
  async open (protocols, signal) {
    const connection = await this.#connect(signal)
    try {
      return await connection.newStream(protocols, { signal })
    } catch (error) {
      if (error.name === 'UnsupportedProtocolError') {
        throw new ProtocolNotSupportedError(`${this.#address} speaks none of ${protocols.join(', ')}`)
      }
      if (NO_MORE_STREAMS.has(error.name)) throw new DialError(error.message)
      throw new ConnectionLostError(`no stream to ${this.#address}: ${error.message}`)
    }
  }

  async close () {
    await this.#node.stop()
  }

  async #connect (signal) {
    try {
      return await this.#node.dial(this.#address, { signal })
    } catch (error) {
      throw new DialError(`no connection to ${this.#address}: ${error.message}`)
    }
  }
}
