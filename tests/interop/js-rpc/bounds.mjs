// The bounds that the .proto files state in the options of their fields, for what is sent as for what is received.

import { hasPresence, option, Type } from './schema.mjs'

/** Messages inside messages, below the outermost one. */
const MAX_DEPTH = 16

export class BoundsError extends Error {
  constructor (path, why) {
    super(`${path}: ${why}`)
    this.name = 'BoundsError'
    this.path = path
  }
}

/** Throws a BoundsError for the first field that is outside its bounds. */
export function checkBounds (type, message, path = '', depth = 0) {
  if (depth > MAX_DEPTH) throw new BoundsError(path, `messages go ${MAX_DEPTH} deep`)
  for (const field of type.fieldsArray) {
    const fieldPath = path ? `${path}.${field.name}` : field.name
    const isSet = Object.hasOwn(message, field.name)
    if (field.repeated) {
      checkItems(field, message[field.name], fieldPath, depth)
    } else if (isSet || !hasPresence(field)) {
      checkValue(field, message[field.name], fieldPath, depth)
    }
  }
}

function checkItems (field, values, path, depth) {
  const most = option(field, 'max_items')
  if (values.length > most) throw new BoundsError(path, `${values.length} items, at most ${most}`)
  values.forEach((value, index) => checkValue(field, value, `${path}[${index}]`, depth))
}

function checkValue (field, value, path, depth) {
  if (field.resolvedType instanceof Type) {
    checkBounds(field.resolvedType, value, path, depth + 1)
  } else if (field.type === 'string' || field.type === 'bytes') {
    // An absent bytes field is an empty array in protobufjs, which Buffer does not measure.
    const size = typeof value === 'string' ? Buffer.byteLength(value) : value.length
    const most = option(field, 'max_bytes') ?? Infinity
    const least = option(field, 'min_bytes') ?? 0
    if (size > most) throw new BoundsError(path, `${size} bytes, at most ${most}`)
    if (size < least) throw new BoundsError(path, `${size} bytes, at least ${least}`)
  }
}

/** Throws a BoundsError where a key stands twice among metadata. */
export function checkKeys (entries, path) {
  const keys = new Set()
  for (const { key } of entries) {
    if (keys.has(key)) throw new BoundsError(path, `the key ${JSON.stringify(key)} stands twice`)
    keys.add(key)
  }
}
