import { setTimeout as sleep } from 'node:timers/promises'
import { BLOCK, BULK, BURST, HOLD, MESSAGE, PACED, PACE_MS, RealTimeClock, REQUEST, RESPONSE, UNARY } from './bench_protocol.mjs'
import { encodeFrame, readFrame } from './frames.mjs'
import { answerCommands, printLine } from './json_lines.mjs'
import { createNode, settings } from './node.mjs'
import { serve } from './services.mjs'
import { closeWrite, drained, send, StreamReader } from './streams.mjs'
import { settledUsage } from './usage.mjs'

const RESPONSE_FRAME = encodeFrame(RESPONSE)
const MESSAGE_FRAME = encodeFrame(MESSAGE)
const BLOCK_FRAME = encodeFrame(BLOCK)

async function readRequest (stream) {
  const parts = await readFrame(new StreamReader(stream))
  if (parts === null) throw new Error('no request')
  return parts.length === 1 ? parts[0] : Buffer.concat(parts)
}

async function readCount (stream) {
  return Number(Buffer.from(await readRequest(stream)).readBigUInt64BE())
}

async function unary (stream) {
  if (!REQUEST.equals(await readRequest(stream))) throw new Error('the request is not the agreed one')
  await send(stream, RESPONSE_FRAME)
  closeWrite(stream)
}

function repeat (frame) {
  return async stream => {
    const count = await readCount(stream)
    for (let sent = 0; sent < count; sent++) {
      if (!stream.send(frame)) await drained(stream)
    }
    closeWrite(stream)
  }
}

async function paced (stream) {
  const count = await readCount(stream)
  const clock = new RealTimeClock()
  const start = performance.now()
  for (let sent = 0; sent < count; sent++) {
    const wait = start + sent * PACE_MS - performance.now()
    if (wait > 0) await sleep(wait)
    const message = Buffer.from(MESSAGE)
    message.writeBigUInt64BE(clock.nowNs())
    await send(stream, encodeFrame(message))
  }
  closeWrite(stream)
}

async function hold (stream) {
  await readCount(stream)
  const over = new Promise(resolve => stream.addEventListener('close', resolve))
  await send(stream, MESSAGE_FRAME)
  await over
}

/** Serves the calls of the benchmark and answers usage commands until stdin ends. */
export async function benchServer () {
  const node = await createNode({ listen: true, bench: true })
  await serve(node, {
    [UNARY]: unary,
    [BURST]: repeat(MESSAGE_FRAME),
    [PACED]: paced,
    [BULK]: repeat(BLOCK_FRAME),
    [HOLD]: hold
  })
  printLine({ address: String(node.getMultiaddrs()[0]), settings: settings() })
  await answerCommands({ usage: settledUsage })
  await node.stop()
}
