import type { StorageConnector } from '../../../lib/store/connector.js';

/** Counts the bytes that go in and out of a storage connector under one key. */
export interface Meter {
  /** Begins to count; `stop` gives the bytes so far and ends it. */
  watch(key: string): { stop(): number };
}

interface Count {
  bytes: number;
  isOver: boolean;
}

/** A connector like `inner`, and the meter on it. Two watches of one key at the same time both count both. */
export function metered(inner: StorageConnector): { readonly connector: StorageConnector; readonly meter: Meter } {
  const watched = new Map<string, Set<Count>>();
  const repair = inner.repair?.bind(inner);
  const held = inner.held?.bind(inner);

  function count(key: string, bytes: number): void {
    for (const one of watched.get(key) ?? []) one.bytes += bytes;
  }

  return {
    meter: {
      watch(key) {
        const one: Count = { bytes: 0, isOver: false };
        const counts = watched.get(key) ?? new Set();
        watched.set(key, counts.add(one));
        return {
          stop() {
            if (!one.isOver) counts.delete(one);
            if (counts.size === 0 && watched.get(key) === counts) watched.delete(key);
            one.isOver = true;
            return one.bytes;
          },
        };
      },
    },
    connector: {
      name: inner.name,
      supports: inner.supports,
      async get(key, options) {
        const value = await inner.get(key, options);
        if (value !== undefined) count(key, value.byteLength);
        return value;
      },
      async put(key, value, options) {
        await inner.put(key, value, options);
        count(key, value.byteLength);
      },
      has: (key, options) => inner.has(key, options),
      delete: (key, options) => inner.delete(key, options),
      list: (prefix, options) => inner.list(prefix, options),
      ...(inner.sweep && { sweep: inner.sweep.bind(inner) }),
      ...(repair && { repair }),
      ...(held && {
        held(key: string) {
          const value = held(key);
          if (value !== undefined) count(key, value.byteLength);
          return value;
        },
      }),
      close: () => inner.close(),
    },
  };
}
