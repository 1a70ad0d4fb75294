// The .proto texts, parsed once: message types, methods, and the one way to serialise and to read a message.

import protobuf from 'protobufjs'
import descriptor from 'protobufjs/google/protobuf/descriptor.json' with { type: 'json' }
import { CONFORMANCE, OPTIONS, RPC } from './protos.mjs'

const PACKAGE = 'hostmesh.v1'

// The options extend the messages of descriptor.proto, which protobufjs brings along as JSON.
const root = protobuf.Root.fromJSON(descriptor)
for (const text of [OPTIONS, RPC, CONFORMANCE]) protobuf.parse(text, root, { keepCase: true })
root.resolveAll()

export const { Enum, Type, util: { Long } } = protobuf

export const Frame = root.lookupType(`${PACKAGE}.Frame`)
export const CallHeader = root.lookupType(`${PACKAGE}.CallHeader`)
export const Status = root.lookupType(`${PACKAGE}.Status`)

/** Whether a field that is absent differs from one that is empty; of messages protobufjs does not say so itself. */
export function hasPresence (field) {
  return !field.repeated && (field.resolvedType instanceof Type || Boolean(field.hasPresence))
}

/** The value of one of hostmesh's options; .proto files of other packages name them in full. */
export function option (holder, name) {
  return holder.options?.[`(${PACKAGE}.${name})`] ?? holder.options?.[`(${name})`]
}

function describeMethod (method) {
  const { resolvedRequestType: requestType, resolvedResponseType: responseType } = method
  return Object.freeze({
    name: method.name,
    requestType,
    responseType,
    streamsRequests: Boolean(method.requestStream),
    streamsResponses: Boolean(method.responseStream),
    maxRequestBytes: option(method, 'max_request_bytes'),
    maxResponseBytes: option(method, 'max_response_bytes')
  })
}

/** The methods of a service by their names. */
export function methodsOf (serviceName) {
  const { methodsArray } = root.lookupService(serviceName)
  return new Map(methodsArray.map((method) => [method.name, describeMethod(method.resolve())]))
}

export function serialise (type, message) {
  return type.encode(message).finish()
}

/** Throws where the bytes are no protobuf, or a text in them no UTF-8. Unknown fields are dropped. */
export function parse (type, bytes) {
  return type.decode(bytes)
}
