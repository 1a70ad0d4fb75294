import { ByteQueue } from './byte_queue.mjs'

/** A reader that holds this much unread stops the remote by pausing its stream. */
const HIGH_WATER_BYTES = 1 << 20

/**
 * Reads a stream by pulling. Its events push: they grant the remote new window as bytes are delivered, so that only
 * `pause()` makes a slow reader felt at the other end.
 */
export class StreamReader {
  queue = new ByteQueue()
  #stream
  #finSeen
  #ended = false
  #resuming = false
  #error = null
  #wake = null

  /** Must be made as soon as the stream is there: without a listener, js-libp2p buffers 4 MiB and then resets. */
  constructor (stream) {
    this.#stream = stream
    this.#finSeen = stream.remoteWriteStatus === 'closed' && stream.status === 'open'
    if (stream.status === 'reset' || stream.status === 'aborted') this.#fail(new Error(`stream ${stream.status}`))
    else if (this.#endedAndEmpty()) this.#onEnd()
    stream.addEventListener('remoteCloseWrite', () => { this.#finSeen = true })
    stream.addEventListener('end', () => this.#onEnd())
    stream.addEventListener('close', event => this.#onClose(event))
    stream.addEventListener('message', event => this.#onMessage(event.data))
  }

  /**
   * Waits until more bytes than now are queued.
   * @returns {Promise<boolean>} false when the remote has closed its side and all has been delivered
   * @throws when the stream was reset or its connection ended before that
   */
  async more () {
    const before = this.queue.length
    if (this.#stream.readStatus === 'paused' && this.#error === null) this.#resume()
    while (this.queue.length === before) {
      if (this.#error !== null) throw this.#error
      if (this.#ended) return false
      await new Promise(resolve => { this.#wake = resolve })
    }
    return true
  }

  /** The next bytes as they come, or null at the end. */
  async readChunk () {
    if (this.queue.length === 0 && !await this.more()) return null
    return this.queue.takeChunk()
  }

  /** Exactly `count` bytes in one buffer. */
  async readExactly (count) {
    while (this.queue.length < count) {
      if (!await this.more()) throw new Error(`the stream ended ${count - this.queue.length} bytes too early`)
    }
    return Buffer.concat(this.queue.take(count))
  }

  /**
   * `resume()` delivers what it has and only then grants window. A pause from within that delivery would be undone by
   * the grant, though the stream would still say 'paused' and overflow its buffer: hence a pause after it.
   */
  #resume () {
    this.#resuming = true
    try {
      this.#stream.resume()
    } catch (error) {
      // The grant fails when the connection is gone by now; what was delivered still counts.
      if (this.#stream.status === 'open') throw error
    } finally {
      this.#resuming = false
    }
    this.#pauseWhenFull()
  }

  #pauseWhenFull () {
    const full = this.queue.length > HIGH_WATER_BYTES
    if (full && !this.#resuming && this.#stream.readStatus === 'readable') this.#stream.pause()
  }

  #onMessage (data) {
    if (this.#ended) {
      this.#fail(new Error(`${data.byteLength} bytes came after the end of the stream: FIN on a frame with a payload?`))
      return
    }
    // js-libp2p delivers Uint8ArrayList or Uint8Array; iterating the latter would give single bytes.
    if (data instanceof Uint8Array) this.queue.push(data)
    else for (const chunk of data) this.queue.push(chunk)
    this.#pauseWhenFull()
    this.#notify()
    if (this.#endedAndEmpty()) this.#onEnd()
  }

  /**
   * 'end' may be over before there is a reader, with bytes still to come: those which protocol negotiation had read
   * ahead and put back. No second 'end' follows them.
   */
  #endedAndEmpty () {
    return this.#stream.readableEnded && this.#stream.readBufferLength === 0
  }

  /** js-libp2p says 'end' also before the 'close' of a reset and when a connection goes: only a FIN is an end. */
  #onEnd () {
    if (this.#finSeen && (this.#stream.status === 'open' || this.#stream.status === 'closed')) {
      this.#ended = true
      this.#notify()
    } else if (this.#stream.status === 'closed') {
      this.#fail(new Error('the connection closed before the end of the stream'))
    }
  }

  #onClose (event) {
    if (this.#ended) return
    if (event.error != null) this.#fail(event.error)
    else if (this.#stream.readBufferLength === 0) this.#onEnd()
  }

  #fail (error) {
    this.#error ??= error
    this.#notify()
  }

  #notify () {
    this.#wake?.()
    this.#wake = null
  }
}

/**
 * Waits until a stream whose `send` returned false takes more.
 *
 * Not the stream's own `onDrain()`: in @libp2p/utils 7 its promise is made once, so that every wait after the first
 * returns at once and the write buffer grows without bounds.
 */
export async function drained (stream) {
  while (stream.writableNeedsDrain) {
    if (stream.status !== 'open') throw new Error(`cannot write: the stream is ${stream.status}`)
    await new Promise(resolve => {
      const done = () => {
        stream.removeEventListener('drain', done)
        stream.removeEventListener('close', done)
        resolve()
      }
      stream.addEventListener('drain', done)
      stream.addEventListener('close', done)
    })
  }
}

/** Sends `bytes` and waits until the stream takes more. */
export async function send (stream, bytes) {
  if (!stream.send(bytes)) await drained(stream)
}

/** Half-closes without waiting; should that fail, the reader of the stream sees it reset. */
export function closeWrite (stream) {
  stream.close().catch(error => stream.abort(error))
}
