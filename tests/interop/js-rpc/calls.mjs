// A call as its caller makes it: one stream, its deadline and its silence, requests out, responses and the end in.

import { Channel } from './channel.mjs'
import { ConnectionLostError, DeadlineExceededError } from './errors.mjs'
import { encodeFrame } from './frames.mjs'
import { ReplyReader } from './replies.mjs'
import { buildHeader, encodeRequest } from './requests.mjs'
import { Bell, timeoutSignal } from './waiting.mjs'

const DEFAULT_SILENCE_MS = 45_000

/** What of responses may wait for the caller before the server is held back. */
const MOST_BYTES_WAITING = 256 * 1024

/** What a response counts besides its bytes: also empty ones need their place. */
const RESPONSE_WEIGHT = 64

export class Call {
  #peer
  #method
  #protocols
  #header
  #silenceMs
  #timeoutMs
  #deadline
  #channel
  #reply
  /** Rings when a response, the end or room to send is there. */
  #bell = new Bell()
  #responses = []
  #bytesWaiting = 0
  #isPaused = false
  #heardAt = 0
  #hasSent = false
  #isHalfClosed = false
  /** Undefined while the call goes on; then the error that it ended with, or null. */
  #end

  /** Throws a UsageError where the header is outside its bounds. Without `timeoutMs` there is no deadline. */
  constructor (peer, { method, protocols, timeoutMs, silenceMs = DEFAULT_SILENCE_MS, ...header }) {
    this.#peer = peer
    this.#method = method
    this.#protocols = protocols
    this.#header = buildHeader(method, header)
    this.#timeoutMs = timeoutMs ?? Infinity
    this.#silenceMs = silenceMs
    this.#reply = new ReplyReader(method)
  }

  /**
   * Opens the stream and sends the header; with it the request and the half-close, where there is one request. The
   * deadline counts from here. An error of this is the end of the call.
   */
  async begin (request) {
    this.#deadline = performance.now() + this.#timeoutMs
    const message = this.#method.streamsRequests ? undefined : encodeRequest(this.#method, request)
    const stream = await this.#open()
    this.#heardAt = performance.now()
    this.#channel = new Channel(stream, {
      onData: (bytes) => this.#onData(bytes),
      onWritable: () => this.#bell.ring(),
      onHalfClose: () => this.#lose('the server half-closed without a status'),
      onLost: () => this.#lose('the stream was reset, or its connection ended')
    })
    this.#hasSent = this.#channel.write(encodeFrame({ header: this.#headerNow(), ...(message && { message }) }))
    if (message !== undefined) this.halfClose()
    if (!this.#method.streamsResponses) this.#watchDeadline()
  }

  /** Sends one of a stream of requests. False where the call has ended: `receive` tells how. */
  async send (request) {
    if (this.#end !== undefined) return false
    const message = this.#encodeOrLeave(request)
    await this.#until(() => this.#channel.isWritable)
    if (this.#end !== undefined) return false
    this.#channel.write(encodeFrame({ message }))
    return true
  }

  /** False where the call has ended. */
  halfClose () {
    if (this.#end !== undefined) return false
    if (!this.#isHalfClosed) this.#channel.closeWrite()
    this.#isHalfClosed = true
    return true
  }

  /** The next response; undefined after the last of a call that went well. Throws what it ended with. */
  async receive () {
    await this.#until(() => this.#responses.length > 0)
    if (this.#responses.length > 0) return this.#take()
    if (this.#end !== null) throw this.#end
    return undefined
  }

  /** Leaves the call. */
  cancel () {
    if (this.#end !== undefined) return
    this.#stop(null)
    this.#channel?.reset()
  }

  #left () {
    return this.#deadline - performance.now()
  }

  async #open () {
    const late = () => new DeadlineExceededError('no stream in time', false)
    if (this.#left() <= 0) throw late()
    const signal = timeoutSignal(this.#left())
    try {
      return await this.#peer.open(this.#protocols, signal)
    } catch (error) {
      throw signal?.aborted ? late() : error
    }
  }

  #headerNow () {
    if (this.#deadline === Infinity) return this.#header
    return { ...this.#header, deadline_left_ms: Math.max(0, Math.floor(this.#left())) }
  }

  /** One response is due at its time, whatever the caller does meanwhile. Of many, only who waits for one is late. */
  async #watchDeadline () {
    await this.#until(() => false, Infinity)
  }

  /** A request that must not be sent ends the call, which the server then need not wait for. */
  #encodeOrLeave (request) {
    try {
      return encodeRequest(this.#method, request)
    } catch (error) {
      error.mayHaveExecuted = true // the requests before it have left
      this.cancel()
      throw error
    }
  }

  /** Waits until `isReady` or the end of the call, within its deadline and the silence that it bears. */
  async #until (isReady, silenceMs = this.#silenceMs) {
    if (this.#channel === undefined) throw new Error('the call has not begun')
    const began = performance.now()
    while (this.#end === undefined && !isReady()) {
      const now = performance.now()
      // Who does not read hears nothing, and is not to take that for silence.
      const silentAt = this.#isPaused ? Infinity : Math.max(began, this.#heardAt) + silenceMs
      if (now >= this.#deadline) {
        this.#fail(new DeadlineExceededError('the deadline has passed', true))
      } else if (now >= silentAt) {
        this.#fail(new ConnectionLostError('nothing was heard of the call for too long', true))
      } else {
        await this.#bell.wait(Math.min(this.#deadline, silentAt) - now)
      }
    }
  }

  #take () {
    const { response, weight } = this.#responses.shift()
    this.#bytesWaiting -= weight
    if (this.#isPaused && this.#bytesWaiting < MOST_BYTES_WAITING) this.#resume()
    return response
  }

  #resume () {
    // Only then, as what waits in the stream comes while it resumes, and it must not be paused again within.
    this.#channel.resume()
    this.#isPaused = false
    this.#pauseWhereFull()
  }

  #pauseWhereFull () {
    if (this.#isPaused || this.#end !== undefined || this.#bytesWaiting < MOST_BYTES_WAITING) return
    this.#isPaused = true
    this.#channel.pause()
  }

  #onData (bytes) {
    this.#heardAt = performance.now()
    try {
      for (const event of this.#reply.read(bytes)) this.#onEvent(event)
    } catch (error) {
      this.#fail(error)
    }
    this.#pauseWhereFull()
    this.#bell.ring()
  }

  #onEvent ({ response, size, status }) {
    if (status !== undefined) {
      this.#stop(status)
      this.#channel.release()
    } else {
      const weight = size + RESPONSE_WEIGHT
      this.#responses.push({ response, weight })
      this.#bytesWaiting += weight
    }
  }

  #lose (why) {
    this.#stop(new ConnectionLostError(why, this.#hasSent))
  }

  #fail (error) {
    this.#stop(error)
    this.#channel.reset()
  }

  #stop (end) {
    this.#end = end
    this.#bell.ring()
  }
}
