// What a case with raw bytes says: a stream, and bytes on it whatever they mean.

import { Channel } from './channel.mjs'
import { failure, protocolId } from './program.mjs'
import { readBytes } from './values.mjs'
import { Bell, pause } from './waiting.mjs'

/** Gives `received` and `end`. */
export async function runRaw (peer, { protocol, steps }) {
  try {
    const exchange = new Exchange(await peer.open([protocolId(protocol)]))
    for (const step of steps) await exchange.perform(step)
    exchange.close()
    return { received: exchange.received, end: exchange.end }
  } catch (error) {
    return { received: '', end: failure(error) }
  }
}

class Exchange {
  #channel
  #bell = new Bell()
  #pieces = []
  #end

  constructor (stream) {
    this.#channel = new Channel(stream, {
      onData: (bytes) => this.#pieces.push(bytes),
      onWritable: () => this.#bell.ring(),
      onHalfClose: () => this.#finish('half_close'),
      onLost: () => this.#finish('reset')
    })
  }

  get received () {
    return Buffer.concat(this.#pieces).toString('hex')
  }

  /** How the stream ended; undefined where nobody has waited for that. */
  get end () {
    return this.#end
  }

  async perform (step) {
    if ('send' in step) return this.#send(readBytes(step.send))
    if (step.half_close) return this.#channel.closeWrite()
    if (step.reset) return this.#reset()
    if ('pause_ms' in step) return pause(step.pause_ms)
    if (step.read_to_end) return this.#until(() => this.#end !== undefined)
    throw new TypeError(`no step: ${Object.keys(step)}`)
  }

  close () {
    this.#channel.release()
  }

  async #send (bytes) {
    this.#channel.write(bytes)
    await this.#until(() => this.#channel.isWritable || this.#end !== undefined)
  }

  #reset () {
    this.#channel.reset()
    this.#finish('own_reset')
  }

  async #until (isReady) {
    while (!isReady()) await this.#bell.wait(Infinity)
  }

  #finish (end) {
    this.#end = end
    this.#bell.ring()
  }
}
