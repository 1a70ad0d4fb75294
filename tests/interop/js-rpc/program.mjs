// What a case with a call says: its steps, and what they came to.

import { Call } from './calls.mjs'
import { CallError, RpcError } from './errors.mjs'
import { methodsOf } from './schema.mjs'
import { readBytes, readMessage, readText, writeMessage } from './values.mjs'
import { pause } from './waiting.mjs'

const METHODS = methodsOf('conformance.v1.ConformanceService')

export function protocolId (protocol, version = '1.0.0') {
  return `/hostmesh/${protocol}/${version}`
}

/** Makes the call of a case. Gives `responses` and `end`. */
export async function runCall (peer, spec) {
  const method = METHODS.get(spec.method)
  const responses = []
  try {
    const call = new Call(peer, callOptions(method, spec))
    return { responses, end: await new Player(call, method, responses).play(spec.steps) }
  } catch (error) {
    return { responses, end: endOf(error) }
  }
}

function callOptions (method, spec) {
  return {
    method,
    protocols: (spec.versions ?? ['1.0.0']).map((version) => protocolId(spec.protocol, version)),
    timeoutMs: spec.timeout_ms,
    silenceMs: spec.silence_ms,
    sessionId: readBytes(spec.session_id ?? ''),
    idempotencyKey: readBytes(spec.idempotency_key ?? ''),
    metadata: Object.entries(spec.metadata ?? {}).map(([key, value]) => [key, readText(value)])
  }
}

class Player {
  #call
  #method
  #responses

  constructor (call, method, responses) {
    this.#call = call
    this.#method = method
    this.#responses = responses
  }

  async play (steps) {
    if (this.#method.streamsRequests) await this.#call.begin()
    for (const step of steps) {
      if (step.cancel) {
        this.#call.cancel()
        return { kind: 'cancelled' }
      }
      // A step that finds the end of the call leaves out the rest.
      if (step.finish || !await this.#perform(step)) break
    }
    return this.#finish()
  }

  /** False where the call is found to have ended. */
  async #perform (step) {
    if ('send' in step) return this.#send(readMessage(this.#method.requestType, step.send), step.times ?? 1)
    if (step.half_close) return this.#call.halfClose()
    if ('receive' in step) return this.#receive(step.receive)
    if ('pause_ms' in step) {
      await pause(step.pause_ms)
      return true
    }
    throw new TypeError(`no step: ${Object.keys(step)}`)
  }

  async #send (request, times) {
    if (!this.#method.streamsRequests) {
      await this.#call.begin(request)
      return true
    }
    for (let sent = 0; sent < times; sent++) {
      if (!await this.#call.send(request)) return false
    }
    return true
  }

  async #receive (count) {
    for (let received = 0; received < count; received++) {
      const response = await this.#call.receive()
      if (response === undefined) return false
      this.#responses.push(writeMessage(this.#method.responseType, response))
    }
    return true
  }

  async #finish () {
    if (this.#method.streamsRequests && !this.#method.streamsResponses) this.#call.halfClose()
    await this.#receive(Infinity)
    return { kind: 'ok' }
  }
}

/** The END of what a case did not ask for. */
export function failure (error) {
  return { kind: 'error', message: `${error.name}: ${error.message}` }
}

/** An error as END. */
export function endOf (error) {
  if (!(error instanceof CallError) || error.kind === 'error') return failure(error)
  const end = { kind: error.kind, may_have_executed: error.mayHaveExecuted }
  if (!(error instanceof RpcError)) return end
  const { code, message, reason, retryAfterMs, details } = error
  return { ...end, code, message, reason, retry_after_ms: retryAfterMs, details }
}
