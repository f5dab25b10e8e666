// Reads of a tier that may be given up for the next one. Such a read may still write to its memory later, so it must not be the
// caller's: that would then hold a mixture of two tiers' bytes.
import type { BufferPool } from '../../../lib/store/buffer-pool.js';
import type { GetOptions } from '../../../lib/store/connector.js';

/** Below this many bytes fresh memory is cheaper than the pool's whole MiB. */
const MIN_POOLED_BYTES = 128 * 1024;

/** Reads as `read` does, but into memory of the pool first where the caller brought memory. */
export async function stagedRead(
  pool: BufferPool,
  options: GetOptions,
  read: (options: GetOptions) => Promise<Uint8Array | undefined>,
): Promise<Uint8Array | undefined> {
  const { into, range, signal } = options;
  if (into === undefined) return read(options);
  const bytes = Math.min(into.byteLength, range?.length ?? Infinity);

  async function readBy(buffer: Uint8Array): Promise<Uint8Array | undefined> {
    const value = await read({ ...options, into: buffer.subarray(0, bytes) });
    signal?.throwIfAborted(); // too late: the caller may use its memory again
    if (value === undefined) return undefined;
    into?.set(value);
    return into?.subarray(0, value.byteLength);
  }

  return bytes < MIN_POOLED_BYTES ? readBy(new Uint8Array(bytes)) : pool.use(bytes, readBy);
}
