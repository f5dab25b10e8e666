import type { CallOptions, ListedValue, SoundnessCheck, StorageConnector } from '../../lib/store/connector.js';
import { checkKey, checkPrefix, MAX_KEY_BYTES } from './arguments.js';

/**
 * A part of another connector: its key `k` is the inner connector's `prefix + k`, and nothing else of the inner one can be reached.
 * Several may share one inner connector, one a tenant (`tenants/alice/`; end it with `/`, or one prefix could start another).
 * Prefix and key together have at most 512 bytes, longer ones are refused with a TypeError. Rejects as the inner connector does.
 * `close` closes the inner connector: where others still use that, drop this one instead; it holds nothing of its own.
 */
export function prefixed(inner: StorageConnector, prefix: string): StorageConnector {
  checkPrefix(prefix);
  if (prefix.length >= MAX_KEY_BYTES) {
    throw new TypeError(`expected the prefix to leave room for a key within ${MAX_KEY_BYTES} bytes, got ${prefix.length} bytes`);
  }

  const innerRepair = inner.repair?.bind(inner);

  function innerKey(key: string): string {
    checkKey(key);
    if (prefix.length + key.length > MAX_KEY_BYTES) {
      throw new TypeError(`expected the key to have at most ${MAX_KEY_BYTES - prefix.length} bytes behind its prefix, got ${key.length}`);
    }
    return prefix + key;
  }

  return {
    name: inner.name,
    supports: inner.supports,
    get: async (key, options) => inner.get(innerKey(key), options),
    put: async (key, value, options) => inner.put(innerKey(key), value, options),
    has: async (key, options) => inner.has(innerKey(key), options),
    delete: async (key, options) => inner.delete(innerKey(key), options),

    async *list(keyPrefix, options): AsyncGenerator<ListedValue> {
      checkPrefix(keyPrefix);
      // No key that could be put is that long.
      if (prefix.length + keyPrefix.length > MAX_KEY_BYTES) return;
      for await (const value of inner.list(prefix + keyPrefix, options)) {
        // Only the prefix itself is no key of ours.
        if (value.key !== prefix) yield { ...value, key: value.key.slice(prefix.length) };
      }
    },

    // All of it: what nobody can get belongs to nobody.
    ...(inner.sweep && { sweep: inner.sweep.bind(inner) }),
    ...(innerRepair && {
      // The judge knows the key as we do.
      repair: async (key: string, isSound: SoundnessCheck, options?: CallOptions) => innerRepair(innerKey(key), (value) => isSound(value, key), options),
    }),
    close: () => inner.close(),
  };
}
