import { benchClient } from './bench_client.mjs'
import { benchServer } from './bench_server.mjs'
import { errorText, printLine } from './json_lines.mjs'
import { mdnsUntilEof } from './mdns.mjs'
import { createNode } from './node.mjs'
import { runScenario } from './scenarios.mjs'
import { serve } from './services.mjs'

/** Below the limit of the tests, so that an answer tells what hung. */
const SCENARIO_TIMEOUT_MS = 50_000

async function serveUntilEof () {
  const node = await createNode({ listen: true, bench: false })
  await serve(node)
  printLine({ peer_id: String(node.peerId), addresses: node.getMultiaddrs().map(String) })
  process.stdin.resume()
  await new Promise(resolve => process.stdin.once('end', resolve))
  await node.stop()
}

async function dial (address, scenario) {
  const timeout = new Promise((resolve, reject) => {
    const late = () => reject(new Error(`${scenario} did not end within ${SCENARIO_TIMEOUT_MS / 1000} s`))
    setTimeout(late, SCENARIO_TIMEOUT_MS).unref()
  })
  try {
    printLine({ ok: true, ...await Promise.race([runScenario(address, scenario), timeout]) })
  } catch (error) {
    printLine({ ok: false, error: errorText(error) })
    process.exitCode = 1
  }
}

const COMMANDS = {
  serve: { parameters: 0, run: serveUntilEof },
  dial: { parameters: 2, run: dial },
  mdns: { parameters: 0, run: mdnsUntilEof },
  'bench-server': { parameters: 0, run: benchServer },
  'bench-client': { parameters: 1, run: benchClient }
}

const [name, ...parameters] = process.argv.slice(2)
const command = COMMANDS[name]
if (command === undefined || command.parameters !== parameters.length) {
  console.error('usage: peer.mjs serve | dial ADDRESS SCENARIO | mdns | bench-server | bench-client ADDRESS')
  process.exitCode = 2
} else {
  await command.run(...parameters)
  // Whatever keeps a timer or a socket, the peer is done; the exit waits until a pipe has taken what was written.
  process.stdout.write('', () => process.exit())
}
