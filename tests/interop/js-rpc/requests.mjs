// What a caller sends: its header and its requests, held to their bounds before anything leaves.

import { BoundsError, checkBounds, checkKeys } from './bounds.mjs'
import { FrameTooLargeError, UsageError } from './errors.mjs'
import { CallHeader, serialise } from './schema.mjs'

const SESSION_ID_BYTES = 16

/** The header of a call without its deadline, which is known when it is sent. */
export function buildHeader (method, { sessionId, idempotencyKey, metadata }) {
  if (sessionId.length !== 0 && sessionId.length !== SESSION_ID_BYTES) {
    throw new UsageError(`a session id has ${SESSION_ID_BYTES} bytes`)
  }
  if (idempotencyKey.length > 0 && (method.streamsRequests || method.streamsResponses)) {
    throw new UsageError('only a call with one request and one response takes an idempotency key')
  }
  const header = {
    method: method.name,
    session_id: sessionId,
    idempotency_key: idempotencyKey,
    metadata: metadata.map(([key, value]) => ({ key, value }))
  }
  refuseOutOfBounds(() => {
    checkBounds(CallHeader, CallHeader.create(header), 'header')
    checkKeys(header.metadata, 'header.metadata')
  })
  return header
}

/** The bytes of a request. */
export function encodeRequest ({ requestType, maxRequestBytes }, request) {
  refuseOutOfBounds(() => checkBounds(requestType, request))
  const bytes = serialise(requestType, request)
  if (bytes.length > maxRequestBytes) {
    throw new FrameTooLargeError(`a request of ${bytes.length} bytes, at most ${maxRequestBytes}`)
  }
  return bytes
}

function refuseOutOfBounds (check) {
  try {
    check()
  } catch (error) {
    throw error instanceof BoundsError ? new UsageError(error.message) : error
  }
}
