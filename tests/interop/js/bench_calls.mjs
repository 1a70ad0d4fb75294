import { createHash } from 'node:crypto'
import { BLOCK, BULK, BURST, countFrame, HOLD, MESSAGE, PACED, RealTimeClock, REQUEST, RESPONSE, STAMP_BYTES, UNARY } from './bench_protocol.mjs'
import { encodeFrame, frameLength, readFrame } from './frames.mjs'
import { openStream } from './node.mjs'
import { closeWrite, StreamReader } from './streams.mjs'

const REQUEST_FRAME = encodeFrame(REQUEST)

function checkLength (parts, expected) {
  const length = parts === null ? 0 : frameLength(parts)
  if (length !== expected.length) throw new Error(`a frame of ${length} bytes instead of ${expected.length}`)
}

function sha256 (parts) {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest()
}

/** A check of whole payloads, for the one run that is not timed. */
export function hashCheck () {
  const digests = new Map([RESPONSE, MESSAGE, BLOCK].map(expected => [expected, sha256([expected])]))
  return (parts, expected) => {
    checkLength(parts, expected)
    if (!sha256(parts).equals(digests.get(expected))) throw new Error('the SHA-256 of a payload differs')
  }
}

/** Opens a stream for one call, sends the request and half-closes. */
async function call (connection, protocol, request) {
  const stream = await openStream(connection, protocol)
  const reader = new StreamReader(stream)
  stream.send(request)
  closeWrite(stream)
  return { stream, reader }
}

/** One call on a stream of its own, over when the server has closed its side. */
export async function unary (connection, check = checkLength) {
  const { reader } = await call(connection, UNARY, REQUEST_FRAME)
  check(await readFrame(reader), RESPONSE)
  if (await readFrame(reader) !== null) throw new Error('more than one response')
}

async function stream (connection, protocol, count, onFrame) {
  const { reader } = await call(connection, protocol, countFrame(count))
  let received = 0
  for (let parts; (parts = await readFrame(reader)) !== null; received++) onFrame(parts)
  if (received !== count) throw new Error(`${received} frames instead of ${count}`)
}

/** One call with `count` messages back to back. */
export function burst (connection, count, check = checkLength) {
  return stream(connection, BURST, count, parts => check(parts, MESSAGE))
}

/** One call with `count` frames of 256 KiB. */
export function bulk (connection, count, check = checkLength) {
  return stream(connection, BULK, count, parts => check(parts, BLOCK))
}

/** One call with a message every 10 ms; returns how long each was under way. */
export async function paced (connection, count) {
  const clock = new RealTimeClock()
  const latenciesUs = []
  await stream(connection, PACED, count, parts => {
    const receivedNs = clock.nowNs()
    checkLength(parts, MESSAGE)
    const message = Buffer.concat(parts)
    if (!message.subarray(STAMP_BYTES).equals(MESSAGE.subarray(STAMP_BYTES))) throw new Error('a message differs')
    latenciesUs.push(Number(receivedNs - message.readBigUInt64BE()) / 1000)
  })
  return latenciesUs
}

/** A call that has its first message and stays open; returns its stream. */
export async function hold (connection) {
  const { stream, reader } = await call(connection, HOLD, countFrame(1))
  checkLength(await readFrame(reader), MESSAGE)
  return stream
}
