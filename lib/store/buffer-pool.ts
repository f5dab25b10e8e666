/**
 * Memory that is used again: fresh memory costs more than the copy into it, because the system zeroes each page at first touch.
 * Not for results, which belong to the caller.
 */
export interface BufferPool {
  /**
   * Lends a buffer of at least `bytes` bytes, of any content, until `work` settles. After a failure it is not lent again: a read
   * that was given up may still write to it.
   */
  use<T>(bytes: number, work: (buffer: Uint8Array) => Promise<T>): Promise<T>;
  /** Forgets the buffers that nobody uses; those in use are forgotten when they come back. */
  clear(): void;
}

// Objects of one store are of similar size but never equal: a step lets them share buffers.
const STEP_BYTES = 1 << 20;

/** Makes a pool that keeps at most `limit` free buffers, the largest that it has seen. */
export function bufferPool(limit: number): BufferPool {
  let free: Uint8Array[] = []; // ascending by size
  let kept = limit;

  function take(bytes: number): Uint8Array {
    const index = free.findIndex((buffer) => buffer.byteLength >= bytes);
    if (index === -1) return new Uint8Array(Math.ceil(bytes / STEP_BYTES) * STEP_BYTES);
    const [buffer] = free.splice(index, 1);
    return buffer ?? new Uint8Array(bytes);
  }

  function giveBack(buffer: Uint8Array): void {
    free.push(buffer);
    free.sort((a, b) => a.byteLength - b.byteLength);
    while (free.length > kept) free.shift();
  }

  return {
    async use(bytes, work) {
      const buffer = take(bytes);
      const result = await work(buffer);
      giveBack(buffer);
      return result;
    },
    clear() {
      free = [];
      kept = 0;
    },
  };
}
