import { encodeFrame } from './frames.mjs'

export const UNARY = '/bench/unary/1'
export const BURST = '/bench/burst/1'
export const PACED = '/bench/paced/1'
export const BULK = '/bench/bulk/1'
export const HOLD = '/bench/hold/1'

export const PACE_MS = 10
/** A paced message begins with the time of its sending. */
export const STAMP_BYTES = 8

/** Byte i is (i * 7 + length) % 256. */
export function payload (length) {
  return Buffer.from(Uint8Array.from({ length }, (_, index) => (index * 7 + length) % 256))
}

export const REQUEST = payload(100)
export const RESPONSE = payload(300)
export const MESSAGE = payload(40)
export const BLOCK = payload(262_144)

/** The request of a streaming call. */
export function countFrame (count) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(count))
  return encodeFrame(bytes)
}

/**
 * The real time in nanoseconds, to the microsecond. Date.now() has milliseconds only, and performance.timeOrigin was
 * read before any later step of the clock; hence the offset, taken at an edge of Date.now().
 */
export class RealTimeClock {
  #offsetMs

  constructor () {
    const before = Date.now()
    let edge = before
    while (edge === before) edge = Date.now()
    this.#offsetMs = edge - performance.now()
  }

  nowNs () {
    return BigInt(Math.round((this.#offsetMs + performance.now()) * 1000)) * 1000n
  }
}
