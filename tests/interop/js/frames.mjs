const MAX_FRAME_BYTES = 16 << 20

/** `payload` behind its length as an unsigned varint. */
export function encodeFrame (payload) {
  const prefix = []
  let rest = payload.length
  while (rest > 0x7f) {
    prefix.push((rest & 0x7f) | 0x80)
    rest >>>= 7
  }
  prefix.push(rest)
  return Buffer.concat([Uint8Array.from(prefix), payload])
}

/** Takes one whole frame out of `queue`: the views that hold its payload, or null while it is not complete. */
function takeFrame (queue) {
  let length = 0
  for (let index = 0; index < queue.length; index++) {
    const byte = queue.byteAt(index)
    length += (byte & 0x7f) * 2 ** (7 * index)
    if (length > MAX_FRAME_BYTES || index > 3) throw new Error('a frame is longer than 16 MiB')
    if (byte < 0x80) {
      if (queue.length < index + 1 + length) return null
      queue.take(index + 1)
      return queue.take(length)
    }
  }
  return null
}

/**
 * The next frame of a StreamReader.
 * @returns {Promise<Uint8Array[] | null>} the views that hold its payload, not copied; null at the end
 */
export async function readFrame (reader) {
  for (;;) {
    const frame = takeFrame(reader.queue)
    if (frame !== null) return frame
    if (await reader.more()) continue
    if (reader.queue.length > 0) throw new Error('the stream ended inside a frame')
    return null
  }
}

/** Bytes in the views of a frame. */
export function frameLength (parts) {
  if (parts.length === 1) return parts[0].length
  return parts.reduce((total, part) => total + part.length, 0)
}
