// The client of the conformance suite: cases as JSON lines on standard input, a result line for each on standard output.
//
//     node conformance.mjs MULTIADDR

import { createInterface } from 'node:readline'

import { Peer } from './node.mjs'
import { failure, runCall } from './program.mjs'
import { runRaw } from './raw.mjs'
import { pause } from './waiting.mjs'

/** Stopping the node is a courtesy to the server. */
const STOP_WITHIN_MS = 2_000

async function runCase (peer, { before = [], call, raw }) {
  for (const spec of before) await runCall(peer, spec)
  return raw === undefined ? runCall(peer, call) : runRaw(peer, raw)
}

async function resultOf (peer, conformanceCase) {
  try {
    return await runCase(peer, conformanceCase)
  } catch (error) {
    return { responses: [], end: failure(error) }
  }
}

const [address] = process.argv.slice(2)
if (address === undefined) {
  console.error('usage: node conformance.mjs MULTIADDR')
  process.exit(2)
}

const peer = await Peer.create(address)
for await (const line of createInterface({ input: process.stdin })) {
  const conformanceCase = JSON.parse(line)
  const result = await resultOf(peer, conformanceCase)
  process.stdout.write(`${JSON.stringify({ name: conformanceCase.name, ...result })}\n`)
}
await Promise.race([peer.close(), pause(STOP_WITHIN_MS)])
process.exit(0)
