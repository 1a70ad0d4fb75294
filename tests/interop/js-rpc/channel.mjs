// A stream of libp2p as the calls need it: bytes and one end, told apart into half-close and loss.

/** How long the other side has to end its own side of a stream that is over for us. */
const LINGER_MS = 30_000

export class Channel {
  #stream
  #listener
  #isOver = false
  /** The end of the bytes is the peer's half-close only where its FIN was seen: libp2p's `end` comes with a loss too. */
  #sawHalfClose

  /**
   * `listener` has `onData(bytes)`, `onWritable()`, and of `onHalfClose()` and `onLost()` one is called once, when all
   * that can be read was given out.
   */
  constructor (stream, listener) {
    this.#stream = stream
    this.#listener = listener
    this.#sawHalfClose = stream.status === 'open' && stream.remoteWriteStatus === 'closed'
    stream.addEventListener('remoteCloseWrite', () => { this.#sawHalfClose = true })
    stream.addEventListener('end', () => this.#onEnd())
    stream.addEventListener('close', (event) => this.#onClose(event.error))
    // A turn later, when the stream itself has sent what was waiting.
    stream.addEventListener('drain', () => queueMicrotask(() => this.#listener.onWritable()))
    stream.addEventListener('message', ({ data }) => this.#onMessage(data))
    // The events of what came before these listeners are gone; what it brought is given out in a microtask.
    if (stream.readableEnded) setImmediate(() => this.#onEnd())
    if (stream.status !== 'open') setImmediate(() => this.#onClose())
  }

  /** Whether the peer and the muxer take more; else `onWritable` tells when to look again. */
  get isWritable () {
    return !this.#stream.writableNeedsDrain
  }

  /** Hands bytes over. False where the stream has ended and they are dropped; how it ended, the listener hears. */
  write (bytes) {
    try {
      this.#stream.send(bytes)
      return true
    } catch {
      return false
    }
  }

  /** Half-closes behind all that was written. */
  closeWrite () {
    this.#stream.close().catch(() => {}) // reset meanwhile
  }

  /** Ends both sides at once. The listener hears nothing more. */
  reset () {
    this.#isOver = true
    // Not within a `message` event: Yamux grants window for what came when that is over, and must not do so behind RST.
    queueMicrotask(() => this.#stream.abort(new Error('reset by the caller')))
  }

  /** Ends our side and reads no more. The listener hears nothing more. */
  async release () {
    this.#isOver = true
    const stream = this.#stream
    if (stream.status !== 'open') return
    const giveUp = () => stream.abort(new Error('the peer did not end its side'))
    const timer = setTimeout(giveUp, LINGER_MS).unref()
    stream.addEventListener('close', () => clearTimeout(timer))
    try {
      await stream.closeRead()
      await stream.close()
    } catch {
      giveUp()
    }
  }

  /** Grants the peer no more window. */
  pause () {
    if (this.#stream.readStatus === 'readable') this.#stream.pause()
  }

  resume () {
    if (this.#stream.readStatus !== 'paused') return
    try {
      this.#stream.resume()
    } catch {
      // What waited was given out; only the window could not be granted, as the connection is gone.
    }
  }

  #onMessage (data) {
    if (!this.#isOver) this.#listener.onData(data.subarray())
  }

  #onEnd () {
    if (this.#isOver || !this.#sawHalfClose || this.#stream.status === 'reset') return
    this.#isOver = true
    this.#listener.onHalfClose()
  }

  #onClose (error) {
    if (this.#isOver) return
    // What came before a loss can still be read, also by one who had paused.
    this.resume()
    // Both sides have ended well, but something is still to be given out: `end` follows it.
    if (this.#isOver || (error === undefined && this.#sawHalfClose)) return
    this.#isOver = true
    this.#listener.onLost()
  }
}
