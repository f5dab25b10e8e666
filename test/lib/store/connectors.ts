import type { ByteRange, GetOptions, StorageConnector } from '../../../lib/store/connector.js';

/** One read, as the connector saw it. */
export interface SeenRead {
  readonly key: string;
  readonly range: ByteRange | undefined;
  readonly bytes: number;
}

/** The connector, and what was read from and put into it. */
export function watched(inner: StorageConnector): { connector: StorageConnector; reads: SeenRead[]; puts: { key: string; value: Uint8Array }[] } {
  const reads: SeenRead[] = [];
  const puts: { key: string; value: Uint8Array }[] = [];
  const connector: StorageConnector = {
    ...inner,
    async get(key, options: GetOptions = {}) {
      const value = await inner.get(key, options);
      reads.push({ key, range: options.range, bytes: value?.length ?? 0 });
      return value;
    },
    async put(key, value, options) {
      await inner.put(key, value, options);
      puts.push({ key, value });
    },
  };
  return { connector, reads, puts };
}

/** A connector that cannot read ranges. */
export function withoutRange(inner: StorageConnector): StorageConnector {
  return { ...inner, supports: { ...inner.supports, range: false }, get: (key, { range: _, ...options } = {}) => inner.get(key, options) };
}

/** All keys of a connector. */
export async function keysOf(connector: StorageConnector): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of connector.list('')) keys.push(key);
  return keys.sort();
}
