import { KvError } from '../../lib/errors.js';
import type { GetOptions, ListedValue, PutOptions, StorageConnector } from '../../lib/store/connector.js';
import { checkFields, checkKey, checkPrefix, checkPut, checkRange, placeRead } from './arguments.js';
import { lifeCycle } from './life-cycle.js';

export interface MemoryOptions {
  /** Most value bytes held at once, above 0; a put that would pass it rejects with KV_NO_SPACE. Default: no limit. */
  readonly maxBytes?: number;
  /** Clock for `ttlMs`, in milliseconds; a simulator passes its own. Default: `performance.now`, which no clock change moves. */
  readonly now?: () => number;
}

interface HeldValue {
  readonly bytes: Uint8Array;
  readonly expiresAt: number;
}

/** Keeps values in this process; they are gone with it. Copies on the way in and out, so nobody shares its memory. */
export function memory(options: MemoryOptions = {}): StorageConnector {
  checkFields(options, ['maxBytes', 'now']);
  const { maxBytes = Infinity, now = () => performance.now() } = options;
  if (!(maxBytes > 0)) throw new RangeError(`expected \`maxBytes\` to be above 0, got ${maxBytes}`);

  const name = 'memory';
  const supports = { range: true, ttl: true };
  const life = lifeCycle(name);
  const values = new Map<string, HeldValue>();
  let heldBytes = 0;

  function remove(key: string): boolean {
    heldBytes -= values.get(key)?.bytes.byteLength ?? 0;
    return values.delete(key);
  }

  function removeExpired(): void {
    for (const [key, { expiresAt }] of values) if (expiresAt <= now()) remove(key);
  }

  function find(key: string): Uint8Array | undefined {
    const held = values.get(key);
    return held !== undefined && held.expiresAt > now() ? held.bytes : undefined;
  }

  function makeRoom(key: string, bytes: number): void {
    const replaced = () => values.get(key)?.bytes.byteLength ?? 0;
    if (heldBytes - replaced() + bytes > maxBytes) removeExpired();
    if (heldBytes - replaced() + bytes <= maxBytes) return;
    throw new KvError(
      'KV_NO_SPACE',
      `memory could not put "${key}": ${bytes} bytes more would pass maxBytes = ${maxBytes}; delete values or raise it`,
    );
  }

  return {
    name,
    supports,

    get: (key: string, options: GetOptions = {}) =>
      life.run(options, async () => {
        checkKey(key);
        checkRange(options.range);
        const bytes = find(key);
        if (bytes === undefined) return undefined;
        const { offset, target } = placeRead(bytes.byteLength, options);
        target.set(bytes.subarray(offset, offset + target.byteLength));
        return target;
      }),

    put: (key: string, value: Uint8Array, options: PutOptions = {}) =>
      life.run(options, async () => {
        checkKey(key);
        checkPut(value, options, supports.ttl);
        makeRoom(key, value.byteLength);
        remove(key);
        // Not value.slice(): that of a Buffer shares the caller's memory.
        values.set(key, { bytes: new Uint8Array(value), expiresAt: now() + (options.ttlMs ?? Infinity) });
        heldBytes += value.byteLength;
      }),

    has: (key, options = {}) =>
      life.run(options, async () => {
        checkKey(key);
        return find(key) !== undefined;
      }),

    delete: (key, options = {}) =>
      life.run(options, async () => {
        checkKey(key);
        const wasThere = find(key) !== undefined;
        remove(key);
        return wasThere;
      }),

    async *list(prefix, options = {}): AsyncGenerator<ListedValue> {
      const keys = await life.run(options, async () => {
        checkPrefix(prefix);
        return [...values.keys()].filter((key) => key.startsWith(prefix));
      });
      for (const key of keys) {
        // Looked up again: the value may have gone while the caller worked on the one before.
        const bytes = await life.run(options, async () => find(key)?.byteLength);
        if (bytes !== undefined) yield { key, bytes };
      }
    },

    async close() {
      await life.close();
      values.clear();
      heldBytes = 0;
    },
  };
}
