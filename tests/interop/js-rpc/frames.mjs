// Frames on the wire: a length in LEB128 and so many bytes.

import { RemoteProtocolError } from './errors.mjs'
import { Frame } from './schema.mjs'

/** What a frame may hold besides the largest message in it. */
export const FRAME_OVERHEAD = 24_576

const MAX_LENGTH_BYTES = 5

/** The bytes of a frame of these fields, with its length before them. */
export function encodeFrame (fields) {
  return Frame.encodeDelimited(Frame.create(fields)).finish()
}

/**
 * Takes a stream apart into the bytes of its frames, however it comes in pieces. What is announced beyond `cap` is
 * refused before it is collected.
 */
export class FrameSplitter {
  #cap
  #pieces = []
  #held = 0
  /** Bytes that must be there before another look at them is worthwhile. */
  #needed = 1

  constructor (cap) {
    this.#cap = cap
  }

  /** Whether bytes are there that belong to no frame yet given out. */
  get isEmpty () {
    return this.#held === 0
  }

  push (bytes) {
    this.#pieces.push(bytes)
    this.#held += bytes.length
  }

  /** The next whole frame without its length, or undefined. */
  next () {
    if (this.#held < this.#needed) return undefined
    const bytes = this.#joined()
    const prefix = readLength(bytes, this.#cap)
    this.#needed = prefix === undefined ? bytes.length + 1 : prefix.size + prefix.length
    if (bytes.length < this.#needed) return undefined
    const frame = bytes.subarray(prefix.size, this.#needed)
    this.#keep(bytes.subarray(this.#needed))
    return frame
  }

  /** Joined once for each frame that comes in pieces, not once for each piece. */
  #joined () {
    if (this.#pieces.length > 1) this.#pieces = [Buffer.concat(this.#pieces)]
    return this.#pieces[0]
  }

  #keep (rest) {
    this.#pieces = rest.length > 0 ? [rest] : []
    this.#held = rest.length
    this.#needed = 1
  }
}

/** The length at the start of `bytes` and its own size; undefined where it is not whole yet. */
function readLength (bytes, cap) {
  let length = 0
  for (let index = 0; index < MAX_LENGTH_BYTES; index++) {
    if (index === bytes.length) return undefined
    const byte = bytes[index]
    // Not `<<`: five bytes hold more than the 32 bits of JavaScript's shifts.
    length += (byte & 0x7f) * 2 ** (7 * index)
    if (byte >= 0x80) continue
    if (byte === 0 && index > 0) throw new RemoteProtocolError('a length that is not in its shortest form')
    if (length > cap) throw new RemoteProtocolError(`a frame of ${length} bytes, at most ${cap}`)
    return { length, size: index + 1 }
  }
  throw new RemoteProtocolError(`a length of more than ${MAX_LENGTH_BYTES} bytes`)
}
