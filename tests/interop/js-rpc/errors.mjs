// How a call can end other than well. Each error knows the kind under which a result names it, and whether the server's
// handler may have run.

/** Status codes after which nobody knows whether the handler did its work. */
const OUTCOME_OPEN = new Set([1, 2, 4, 13, 15])
const ABORTED = 10

export class CallError extends Error {
  kind = 'error'

  constructor (message, mayHaveExecuted = false) {
    super(message)
    this.name = new.target.name
    this.mayHaveExecuted = mayHaveExecuted
  }
}

/** The server ended the call with a status other than OK. */
export class RpcError extends CallError {
  kind = 'status'

  constructor ({ code, message, reason, retryAfterMs, details }) {
    super(message, OUTCOME_OPEN.has(code) || (code === ABORTED && reason === 'OUTCOME_UNKNOWN'))
    Object.assign(this, { code, reason, retryAfterMs, details })
  }
}

export class DeadlineExceededError extends CallError {
  kind = 'deadline'
}

/** The stream or the connection ended before the status was there. */
export class ConnectionLostError extends CallError {
  kind = 'lost'
}

/** No connection, or no place for one more stream: nothing was sent. */
export class DialError extends CallError {}

export class ProtocolNotSupportedError extends CallError {
  kind = 'not_supported'
}

/** The caller's own request or header is outside its bounds. */
export class UsageError extends CallError {
  kind = 'refused'
}

/** The caller's own request is larger than its method allows. */
export class FrameTooLargeError extends CallError {
  kind = 'refused'
}

/** The server broke the protocol or a bound. It had the request by then. */
export class RemoteProtocolError extends CallError {
  kind = 'violation'

  constructor (message) {
    super(message, true)
  }
}
