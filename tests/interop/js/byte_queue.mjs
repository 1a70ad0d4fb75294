/** A first-in-first-out queue of bytes that gives out views of the chunks it was given and never copies. */
export class ByteQueue {
  #chunks = []
  #offset = 0
  #length = 0

  get length () {
    return this.#length
  }

  /** @param {Uint8Array} chunk */
  push (chunk) {
    if (chunk.length === 0) return
    this.#chunks.push(chunk)
    this.#length += chunk.length
  }

  /** The byte at `index`, which must be below `length`. */
  byteAt (index) {
    let position = this.#offset + index
    for (const chunk of this.#chunks) {
      if (position < chunk.length) return chunk[position]
      position -= chunk.length
    }
    throw new RangeError(`byte ${index} of a queue of ${this.#length}`)
  }

  /** Removes the next `count` bytes, which must be there, and returns the views that hold them. */
  take (count) {
    if (count > this.#length) throw new RangeError(`${count} bytes of a queue of ${this.#length}`)
    const parts = []
    let missing = count
    while (missing > 0) {
      const chunk = this.#chunks[0]
      const end = Math.min(this.#offset + missing, chunk.length)
      parts.push(chunk.subarray(this.#offset, end))
      missing -= end - this.#offset
      this.#offset = end
      if (end === chunk.length) {
        this.#chunks.shift()
        this.#offset = 0
      }
    }
    this.#length -= count
    return parts
  }

  /** Removes the next contiguous run of bytes; there must be one. */
  takeChunk () {
    return this.take(this.#chunks[0].length - this.#offset)[0]
  }
}
