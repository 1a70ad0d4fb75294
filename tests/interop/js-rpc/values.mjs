// Values of the table in JSON, and the protobuf messages that they stand for.

import { createHash } from 'node:crypto'

import { Enum, hasPresence, Long, Type } from './schema.mjs'

/** Longer bytes are told by their size and digest. */
const MOST_BYTES_IN_FULL = 256

const LONG_TYPES = new Set(['int64', 'uint64', 'sint64', 'fixed64', 'sfixed64'])
const UNSIGNED_TYPES = new Set(['uint64', 'fixed64'])

/** TEXT: a string, or one so many times. */
export function readText (value) {
  return typeof value === 'string' ? value : value.text.repeat(value.times)
}

/** BYTES: hex, hex so many times, or a list of both. */
export function readBytes (value) {
  if (Array.isArray(value)) return Buffer.concat(value.map(readBytes))
  const { hex, times } = typeof value === 'string' ? { hex: value, times: 1 } : value
  const once = Buffer.from(hex, 'hex')
  // Buffer stops at the first thing that is no hex, and says nothing.
  if (once.length * 2 !== hex.length) throw new TypeError('no hex')
  return Buffer.alloc(once.length * times, once)
}

function writeBytes (bytes) {
  if (bytes.length <= MOST_BYTES_IN_FULL) return Buffer.from(bytes).toString('hex')
  return { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
}

/** MESSAGE to a message of protobufjs. */
export function readMessage (type, object) {
  const message = type.create()
  for (const [name, value] of Object.entries(object)) {
    const field = type.fields[name]
    if (field === undefined) throw new TypeError(`${type.name} has no field ${name}`)
    message[name] = field.repeated ? value.map((item) => readValue(field, item)) : readValue(field, value)
  }
  return message
}

function readValue (field, value) {
  if (field.resolvedType instanceof Type) return readMessage(field.resolvedType, value)
  if (field.type === 'bytes') return readBytes(value)
  if (field.type === 'string') return readText(value)
  if (LONG_TYPES.has(field.type)) return Long.fromString(String(value), UNSIGNED_TYPES.has(field.type))
  return value
}

/** A message that was read from the wire to MESSAGE. */
export function writeMessage (type, message) {
  const object = {}
  for (const field of type.fieldsArray) {
    if (field.repeated) {
      const values = message[field.name]
      if (values.length > 0) object[field.name] = values.map((value) => writeValue(field, value))
    } else if (Object.hasOwn(message, field.name)) {
      const value = writeValue(field, message[field.name])
      // What is empty was not read as set, but for an enum value that became UNSPECIFIED.
      if (hasPresence(field) || value !== 0) object[field.name] = value
    }
  }
  return object
}

function writeValue (field, value) {
  if (field.resolvedType instanceof Type) return writeMessage(field.resolvedType, value)
  // An enum value that this version does not know is UNSPECIFIED.
  if (field.resolvedType instanceof Enum) return field.resolvedType.valuesById[value] === undefined ? 0 : value
  if (field.type === 'bytes') return writeBytes(value)
  if (LONG_TYPES.has(field.type)) return value.toString()
  return value
}
