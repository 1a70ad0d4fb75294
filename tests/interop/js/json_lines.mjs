import { createInterface } from 'node:readline'

export function printLine (value) {
  process.stdout.write(JSON.stringify(value) + '\n')
}

/** An error as the one line that a report has room for. */
export function errorText (error) {
  return `${error?.name ?? 'Error'}: ${error?.message ?? error}`
}

/** Answers each JSON line of stdin with one, in order, until stdin ends. */
export async function answerCommands (handlers) {
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() === '') continue
    try {
      const command = JSON.parse(line)
      const handler = handlers[command.cmd]
      if (handler === undefined) throw new Error(`no command ${command.cmd}`)
      printLine({ ok: true, ...await handler(command) })
    } catch (error) {
      printLine({ ok: false, error: errorText(error) })
    }
  }
}
