// Waiting: for a time, or for something to change within a time.

/** Node's timers take no more; who has waited so long looks again. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

export class Bell {
  #waiting = new Set()

  ring () {
    for (const wake of this.#waiting) wake()
  }

  /** Resolves at the next ring, or when so much time has passed. */
  async wait (timeoutMs) {
    const { promise, resolve } = Promise.withResolvers()
    const timer = setTimeout(resolve, Math.min(timeoutMs, LONGEST_TIMER_MS))
    this.#waiting.add(resolve)
    try {
      await promise
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(resolve)
    }
  }
}

export function pause (ms) {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** An abort signal after so much time, or none where that is no end. */
export function timeoutSignal (timeoutMs) {
  return timeoutMs === Infinity ? undefined : AbortSignal.timeout(Math.min(Math.ceil(timeoutMs), LONGEST_TIMER_MS))
}
