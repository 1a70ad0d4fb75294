import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { STREAM_LIMITS } from './node.mjs'
import { closeWrite, send, StreamReader } from './streams.mjs'

const SLOW_START_MS = 2000
const SLOW_PAUSE_MS = 200
const SLOW_EVERY_BYTES = 4 << 20

/** Byte i is i % 251; whole periods, so that every chunk of a long run starts alike. */
const PATTERN = Uint8Array.from({ length: 251 * 1024 }, (_, index) => index % 251)

/** The first `count` bytes of the pattern, as views. */
export function * pattern (count) {
  for (let left = count; left > 0; left -= PATTERN.length) yield PATTERN.subarray(0, Math.min(left, PATTERN.length))
}

/** Reads to the end as fast as it comes, or with the pauses of the slow scenarios. */
export async function digest (reader, { slow = false } = {}) {
  const hash = createHash('sha256')
  let count = 0
  let nextPause = SLOW_EVERY_BYTES
  if (slow) await sleep(SLOW_START_MS)
  for (let chunk; (chunk = await reader.readChunk()) !== null;) {
    hash.update(chunk)
    count += chunk.length
    if (slow && count >= nextPause) {
      nextPause += SLOW_EVERY_BYTES
      await sleep(SLOW_PAUSE_MS)
    }
  }
  return { count, sha256: hash.digest() }
}

async function echo (stream) {
  const reader = new StreamReader(stream)
  for (let chunk; (chunk = await reader.readChunk()) !== null;) await send(stream, chunk)
  closeWrite(stream)
}

async function source (stream) {
  const count = Number((await new StreamReader(stream).readExactly(8)).readBigUInt64BE())
  for (const chunk of pattern(count)) await send(stream, chunk)
  closeWrite(stream)
}

async function sink (stream, options) {
  const { count, sha256 } = await digest(new StreamReader(stream), options)
  const answer = Buffer.alloc(40)
  sha256.copy(answer)
  answer.writeBigUInt64BE(BigInt(count), 32)
  await send(stream, answer)
  closeWrite(stream)
}

async function half (stream) {
  const { count } = await digest(new StreamReader(stream))
  for (let time = 0; time < 3; time++) {
    if (time > 0) await sleep(100)
    await send(stream, Buffer.from(String(count)))
  }
  closeWrite(stream)
}

async function reset (stream) {
  await new StreamReader(stream).readExactly(1)
  stream.abort(new Error('a reset, as asked for'))
}

const HANDLERS = {
  '/interop/echo/1': echo,
  '/interop/source/1': source,
  '/interop/sink/1': stream => sink(stream),
  '/interop/slow/1': stream => sink(stream, { slow: true }),
  '/interop/half/1': half,
  '/interop/reset/1': reset
}

/** Registers handlers that may throw: their stream is then reset, and the reason goes to stderr. */
export async function serve (node, handlers = HANDLERS) {
  for (const [protocol, handler] of Object.entries(handlers)) {
    await node.handle(protocol, async stream => {
      try {
        await handler(stream)
      } catch (error) {
        console.error(`${protocol}: ${error}`)
        stream.abort(error)
      }
    }, STREAM_LIMITS)
  }
}
