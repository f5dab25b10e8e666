// Objects as they are stored, in memory in front of the store. Unlike `tiered` over `memory` it lends its memory to the decoder instead of
// copying: test/bench/shim.bench.ts measures what that is worth.
import type { CallOptions, GetOptions, StorageConnector } from '../../../lib/store/connector.js';
import { checkRange, placeRead } from '../../storage/arguments.js';

export interface HotTierOptions {
  /** Most bytes of objects, above 0. */
  readonly maxBytes: number;
  /** How long an object may be served from memory, in milliseconds. Default: no end. */
  readonly maxAgeMs?: number;
  /** Clock, in milliseconds. Default: `performance.now`, which no clock change moves. */
  readonly now?: () => number;
}

/** A storage connector that remembers what went through it, and can read ahead. */
export interface HotTier extends StorageConnector {
  held(key: string): Uint8Array | undefined;
  /** Reads a value into memory; false if there is none or it is too large. */
  load(key: string, options?: CallOptions): Promise<boolean>;
}

interface Entry {
  readonly value: Uint8Array;
  readonly until: number;
}

/** Puts memory in front of `inner`: what is put or got whole stays until others were used later. Rejects as `inner` does; closing closes `inner`. */
export function hotTier(inner: StorageConnector, { maxBytes, maxAgeMs = Infinity, now = () => performance.now() }: HotTierOptions): HotTier {
  const entries = new Map<string, Entry>(); // least recently used first
  // Changes of keys that are being read: what was read before must not be remembered after.
  const reading = new Map<string, Set<{ isStale: boolean }>>();
  let heldBytes = 0;

  function forget(key: string): void {
    heldBytes -= entries.get(key)?.value.byteLength ?? 0;
    entries.delete(key);
  }

  function changed(key: string): void {
    forget(key);
    for (const mark of reading.get(key) ?? []) mark.isStale = true;
  }

  /** Keeps `value`, which is ours from now on. */
  function keep(key: string, value: Uint8Array, ttlMs = Infinity): boolean {
    if (value.byteLength > maxBytes) return false;
    forget(key);
    entries.set(key, { value, until: now() + Math.min(maxAgeMs, ttlMs) });
    heldBytes += value.byteLength;
    for (const [oldest] of entries) {
      if (heldBytes <= maxBytes) break;
      forget(oldest);
    }
    return true;
  }

  function held(key: string): Uint8Array | undefined {
    const entry = entries.get(key);
    if (entry === undefined) return undefined;
    if (entry.until <= now()) {
      forget(key);
      return undefined;
    }
    entries.delete(key);
    entries.set(key, entry);
    return entry.value;
  }

  /** Runs a read, and tells whether the key was left alone meanwhile. */
  async function watching<T>(key: string, read: () => Promise<T>): Promise<{ readonly result: T; readonly isFresh: boolean }> {
    const mark = { isStale: false };
    const marks = reading.get(key) ?? new Set();
    reading.set(key, marks.add(mark));
    try {
      const result = await read();
      return { result, isFresh: !mark.isStale };
    } finally {
      marks.delete(mark);
      if (marks.size === 0) reading.delete(key);
    }
  }

  return {
    name: inner.name,
    supports: inner.supports,
    held,

    async get(key, options: GetOptions = {}) {
      options.signal?.throwIfAborted();
      const value = held(key);
      if (value !== undefined) return copyOf(value, options);
      const { result, isFresh } = await watching(key, () => inner.get(key, options));
      if (result !== undefined && isFresh && isWhole(result, options) && result.byteLength <= maxBytes) keep(key, new Uint8Array(result));
      return result;
    },

    async put(key, value, options) {
      changed(key);
      const { isFresh } = await watching(key, () => inner.put(key, value, options));
      changed(key);
      if (isFresh && value.byteLength <= maxBytes) keep(key, new Uint8Array(value), options?.ttlMs);
    },

    async load(key, options) {
      if (held(key) !== undefined) return true;
      const { result, isFresh } = await watching(key, () => inner.get(key, options));
      return result !== undefined && isFresh && keep(key, result);
    },

    async has(key, options) {
      options?.signal?.throwIfAborted();
      return held(key) !== undefined || inner.has(key, options);
    },

    async delete(key, options) {
      changed(key);
      try {
        return await inner.delete(key, options);
      } finally {
        changed(key);
      }
    },

    list: (prefix, options) => inner.list(prefix, options),
    ...(inner.sweep && { sweep: inner.sweep.bind(inner) }),

    // Memory is dropped; what is below it may well be sound.
    async repair(key, isSound, options = {}) {
      changed(key);
      if (inner.repair !== undefined) return inner.repair(key, isSound, options);
      const value = await inner.get(key, options);
      if (value === undefined) return { sound: 0, replaced: 0, deleted: 0, failed: 0 };
      if (await isSound(value, key)) return { sound: 1, replaced: 0, deleted: 0, failed: 0 };
      await inner.delete(key, options);
      return { sound: 0, replaced: 0, deleted: 1, failed: 0 };
    },

    async close() {
      entries.clear();
      heldBytes = 0;
      await inner.close();
    },
  };
}

/** Whether what was read is known to be all of it. */
function isWhole(value: Uint8Array, { range }: GetOptions): boolean {
  return range === undefined || (range.offset === 0 && value.byteLength < range.length);
}

function copyOf(value: Uint8Array, options: GetOptions): Uint8Array {
  checkRange(options.range);
  const { offset, target } = placeRead(value.byteLength, options);
  target.set(value.subarray(offset, offset + target.byteLength));
  return target;
}
