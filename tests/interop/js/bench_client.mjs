import { multiaddr } from '@multiformats/multiaddr'
import { bulk, burst, hashCheck, hold, paced, unary } from './bench_calls.mjs'
import { answerCommands } from './json_lines.mjs'
import { createNode, dialIdentified } from './node.mjs'
import { measured, percentiles } from './usage.mjs'

const WARMUP_CALLS = 200

/** One client's side of the benchmark: a main connection, and what a command asked it to hold. */
class BenchClient {
  #address
  #node = null
  #connection = null
  #heldNodes = []
  #heldStreams = []

  constructor (address) {
    this.#address = address
  }

  async warmup () {
    await this.close()
    this.#node = await createNode({ listen: false, bench: true })
    this.#connection = (await dialIdentified(this.#node, this.#address)).connection
    for (let calls = 0; calls < WARMUP_CALLS; calls++) {
      await unary(this.#connection)
      await burst(this.#connection, 1)
      await paced(this.#connection, 1)
    }
    await bulk(this.#connection, 1)
    return {}
  }

  run (command) {
    const connection = this.#connected()
    switch (command.work) {
      case 'unary': return this.#unary(connection, command.concurrency, command.seconds * 1000)
      case 'stream_burst': return measured(async () => {
        await burst(connection, command.messages)
        return { ops: command.messages }
      })
      case 'stream_paced': return measured(async () => {
        const latenciesUs = await paced(connection, command.messages)
        return { ops: command.messages, latency_us: percentiles(latenciesUs) }
      })
      case 'bulk': return measured(async () => {
        await bulk(connection, command.frames)
        return { ops: command.frames, bytes: command.frames * 262_144 }
      })
      case 'connect': return this.#connect(command.count)
      case 'verify': return this.#verify(connection)
      default: throw new Error(`no work ${command.work}`)
    }
  }

  #unary (connection, concurrency, durationMs) {
    return measured(async () => {
      const deadline = performance.now() + durationMs
      const latenciesUs = []
      const caller = async () => {
        for (let start; (start = performance.now()) < deadline;) {
          await unary(connection)
          latenciesUs.push((performance.now() - start) * 1000)
        }
      }
      await Promise.all(Array.from({ length: concurrency }, caller))
      return { ops: latenciesUs.length, latency_us: percentiles(latenciesUs) }
    })
  }

  #connect (count) {
    return measured(async () => {
      const latenciesUs = []
      for (let cycle = 0; cycle < count; cycle++) {
        const node = await createNode({ listen: false, bench: true })
        const start = performance.now()
        await unary(await node.dial(multiaddr(this.#address)))
        latenciesUs.push((performance.now() - start) * 1000)
        await node.stop()
      }
      return { ops: count, latency_us: percentiles(latenciesUs) }
    })
  }

  async #verify (connection) {
    const check = hashCheck()
    for (let calls = 0; calls < 50; calls++) await unary(connection, check)
    await burst(connection, 2000, check)
    await bulk(connection, 16, check)
    return {}
  }

  async holdConnections ({ count }) {
    for (let held = 0; held < count; held++) {
      const node = await createNode({ listen: false, bench: true })
      this.#heldNodes.push(node)
      const { connection } = await dialIdentified(node, this.#address)
      await unary(connection)
    }
    return {}
  }

  async holdStreams ({ count }) {
    const connection = this.#connected()
    for (let held = 0; held < count; held++) this.#heldStreams.push(await hold(connection))
    return {}
  }

  async release () {
    for (const stream of this.#heldStreams.splice(0)) stream.abort(new Error('released'))
    await Promise.all(this.#heldNodes.splice(0).map(node => node.stop()))
    return {}
  }

  async close () {
    await this.release()
    await this.#node?.stop()
  }

  #connected () {
    if (this.#connection === null) throw new Error('warmup must come first')
    return this.#connection
  }
}

/** Carries out the commands of stdin against the server at `address` until stdin ends. */
export async function benchClient (address) {
  const client = new BenchClient(address)
  await answerCommands({
    warmup: () => client.warmup(),
    run: command => client.run(command),
    hold_connections: command => client.holdConnections(command),
    hold_streams: command => client.holdStreams(command),
    release: () => client.release()
  })
  await client.close()
}
