import { createHash, randomBytes } from 'node:crypto'
import { createNode, dialIdentified, openStream } from './node.mjs'
import { digest, pattern } from './services.mjs'
import { closeWrite, send, StreamReader } from './streams.mjs'
import { percentiles } from './usage.mjs'

const BULK_BYTES = 64 << 20
const STREAM_COUNT = 200
const PING_COUNT = 10

function check (condition, message) {
  if (!condition) throw new Error(message)
}

/** A stream with its reader, which must be there from the start. */
async function open (connection, protocol) {
  const stream = await openStream(connection, protocol)
  return { stream, reader: new StreamReader(stream) }
}

async function expectEnd (reader) {
  const chunk = await reader.readChunk()
  check(chunk === null, `${chunk?.length} bytes instead of the end of the stream`)
}

function expectPattern ({ count, sha256 }, expectedCount) {
  check(count === expectedCount, `${count} bytes instead of ${expectedCount}`)
  const hash = createHash('sha256')
  for (const chunk of pattern(expectedCount)) hash.update(chunk)
  check(sha256.equals(hash.digest()), 'the SHA-256 of the bytes differs')
}

async function identify (connection, { protocols, agentVersion, protocolVersion, observedAddr }) {
  return { protocols, agent: agentVersion, protocol_version: protocolVersion, observed: String(observedAddr) }
}

async function ping (connection) {
  const { stream, reader } = await open(connection, '/ipfs/ping/1.0.0')
  const roundTripsUs = []
  for (let time = 0; time < PING_COUNT; time++) {
    const data = randomBytes(32)
    const start = performance.now()
    await send(stream, data)
    check(data.equals(await reader.readExactly(32)), 'a ping came back different')
    roundTripsUs.push((performance.now() - start) * 1000)
  }
  closeWrite(stream)
  await expectEnd(reader)
  return { rtt_us: percentiles(roundTripsUs).p50 }
}

async function echo (connection) {
  for (const size of [1 << 10, 1 << 20]) {
    const { stream, reader } = await open(connection, '/interop/echo/1')
    const data = randomBytes(size)
    const [received] = await Promise.all([
      reader.readExactly(size),
      send(stream, data).then(() => closeWrite(stream))
    ])
    check(data.equals(received), `${size} bytes came back different`)
    await expectEnd(reader)
  }
  return {}
}

function upload (protocol) {
  return async connection => {
    const { stream, reader } = await open(connection, protocol)
    const start = performance.now()
    for (const chunk of pattern(BULK_BYTES)) await send(stream, chunk)
    closeWrite(stream)
    const answer = await reader.readExactly(40)
    await expectEnd(reader)
    expectPattern({ sha256: answer.subarray(0, 32), count: Number(answer.readBigUInt64BE(32)) }, BULK_BYTES)
    return { bytes: BULK_BYTES, seconds: (performance.now() - start) / 1000 }
  }
}

function download (options) {
  return async connection => {
    const { stream, reader } = await open(connection, '/interop/source/1')
    const request = Buffer.alloc(8)
    request.writeBigUInt64BE(BigInt(BULK_BYTES))
    const start = performance.now()
    await send(stream, request)
    closeWrite(stream)
    expectPattern(await digest(reader, options), BULK_BYTES)
    return { bytes: BULK_BYTES, seconds: (performance.now() - start) / 1000 }
  }
}

async function streams (connection) {
  const numbers = Array.from({ length: STREAM_COUNT }, (_, number) => number)
  const all = await Promise.all(numbers.map(() => open(connection, '/interop/echo/1')))
  await Promise.all(all.map(async ({ stream, reader }) => {
    const data = randomBytes(1 << 10)
    await send(stream, data)
    check(data.equals(await reader.readExactly(data.length)), 'a stream got bytes that differ')
  }))
  const open_at_once = connection.streams.filter(stream => stream.protocol === '/interop/echo/1').length
  check(open_at_once === STREAM_COUNT, `${open_at_once} streams open instead of ${STREAM_COUNT}`)
  for (const { stream } of all) closeWrite(stream)
  await Promise.all(all.map(({ reader }) => expectEnd(reader)))
  return { open_at_once }
}

async function halfClose (connection) {
  const { stream, reader } = await open(connection, '/interop/half/1')
  await send(stream, randomBytes(1000))
  closeWrite(stream)
  const answer = String(await reader.readExactly(12))
  await expectEnd(reader)
  check(answer === '100010001000', `${answer} instead of 1000 three times`)
  return {}
}

async function reset (connection) {
  const { stream, reader } = await open(connection, '/interop/reset/1')
  await send(stream, Buffer.of(1))
  const outcome = await reader.readChunk().then(chunk => chunk === null ? 'the end' : 'bytes', error => error.name)
  check(outcome === 'StreamResetError', `the read gave ${outcome} instead of a reset`)
  return {}
}

const SCENARIOS = {
  identify,
  ping,
  echo,
  'bulk-up': upload('/interop/sink/1'),
  'bulk-down': download(),
  streams,
  'half-close': halfClose,
  reset,
  slow: upload('/interop/slow/1'),
  'slow-reader': download({ slow: true })
}

/**
 * Dials `address` from a fresh node and runs one scenario.
 * @returns {Promise<object>} its facts
 */
export async function runScenario (address, name) {
  const scenario = SCENARIOS[name]
  check(scenario !== undefined, `no scenario ${name}; there are ${Object.keys(SCENARIOS).join(', ')}`)
  const node = await createNode({ listen: false, bench: false })
  try {
    const { connection, identity } = await dialIdentified(node, address)
    return await scenario(connection, identity)
  } finally {
    await node.stop()
  }
}
