// The server's side of a call as its caller reads it: bytes in, responses and the status out. No timers, no network.

import { BoundsError, checkBounds } from './bounds.mjs'
import { DeadlineExceededError, RemoteProtocolError, RpcError } from './errors.mjs'
import { FRAME_OVERHEAD, FrameSplitter } from './frames.mjs'
import { Frame, parse, Status } from './schema.mjs'

const OK = 0
const UNKNOWN = 2
const DEADLINE_EXCEEDED = 4
const LAST_KNOWN_CODE = 16

export class ReplyReader {
  #method
  #splitter
  /** The response of a method that has one: nobody gets it before the status says OK. */
  #single

  constructor (method) {
    this.#method = method
    this.#splitter = new FrameSplitter(method.maxResponseBytes + FRAME_OVERHEAD)
  }

  /**
   * Yields `{ response, size }` for each response and, last, `{ status }`: an error, or null where the call went well.
   * Throws a RemoteProtocolError for what the server must not send, after what came before it.
   */
  * read (bytes) {
    this.#splitter.push(bytes)
    for (let frame = this.#splitter.next(); frame !== undefined; frame = this.#splitter.next()) {
      if (frame.length === 0) continue // a heartbeat
      const { message, status } = this.#parseFrame(frame)
      if (message !== undefined) {
        const response = { response: this.#parseResponse(message), size: message.length }
        if (this.#method.streamsResponses) yield response
        else this.#keep(response)
      }
      if (status !== undefined) {
        yield * this.#end(status)
        return
      }
    }
  }

  #parseFrame (bytes) {
    const frame = readOrRefuse('a frame', () => parse(Frame, bytes))
    if (Object.hasOwn(frame, 'header')) throw new RemoteProtocolError('a header from the server')
    const message = Object.hasOwn(frame, 'message') ? frame.message : undefined
    const status = Object.hasOwn(frame, 'status') ? frame.status : undefined
    if (message === undefined && status === undefined) throw new RemoteProtocolError('a frame of nothing')
    return { message, status }
  }

  #parseResponse (bytes) {
    const { maxResponseBytes, responseType } = this.#method
    if (bytes.length > maxResponseBytes) {
      throw new RemoteProtocolError(`a response of ${bytes.length} bytes, at most ${maxResponseBytes}`)
    }
    return readOrRefuse('a response', () => {
      const response = parse(responseType, bytes)
      checkBounds(responseType, response)
      return response
    })
  }

  #keep (response) {
    if (this.#single !== undefined) throw new RemoteProtocolError('a second response')
    this.#single = response
  }

  * #end (status) {
    readOrRefuse('a status', () => checkBounds(Status, status, 'status'))
    if (!this.#splitter.isEmpty) throw new RemoteProtocolError('bytes behind the status')
    if (!this.#method.streamsResponses) {
      const isOk = status.code === OK
      if (isOk && this.#single === undefined) throw new RemoteProtocolError('OK without a response')
      if (!isOk && this.#single !== undefined) throw new RemoteProtocolError('a response and an error')
      if (isOk) yield this.#single
    }
    yield { status: status.code === OK ? null : errorOf(status) }
  }
}

/** What `read` gives; whatever it finds wrong with the bytes is the server's violation. */
function readOrRefuse (what, read) {
  try {
    return read()
  } catch (error) {
    if (error instanceof BoundsError) throw new RemoteProtocolError(`${what} outside its bounds: ${error.message}`)
    throw new RemoteProtocolError(`${what} that is no protobuf: ${error.message}`)
  }
}

function errorOf (status) {
  if (status.code === DEADLINE_EXCEEDED && status.reason === '') {
    return new DeadlineExceededError(status.message || 'the server says that the deadline has passed', true)
  }
  const retryAfterMs = Number(status.retry_after_ms)
  return new RpcError({
    code: status.code > LAST_KNOWN_CODE ? UNKNOWN : status.code,
    message: status.message,
    reason: status.reason,
    retryAfterMs: retryAfterMs === 0 ? null : retryAfterMs,
    details: Object.fromEntries(status.details.map(({ key, value }) => [key, value]))
  })
}
