import { memory } from '../../../../connectors/storage/memory.js';
import { KvStore, type KvLayout, type ListedValue, type Namespace, type RunManifest, type StorageConnector } from '../../../../lib/index.js';
import { SMALL, tensorOf } from '../tensors.js';

export const HOUR = 3_600_000;

/** A connector that says when each value was put, by a clock that the test sets. */
export function dated(inner: StorageConnector = memory()): { connector: StorageConnector; clock: { nowMs: number } } {
  const clock = { nowMs: 1_000 * HOUR };
  const storedAt = new Map<string, number>();
  const connector: StorageConnector = {
    ...inner,
    async put(key, value, options) {
      await inner.put(key, value, options);
      storedAt.set(key, clock.nowMs);
    },
    async *list(prefix, options): AsyncGenerator<ListedValue> {
      for await (const value of inner.list(prefix, options)) {
        const storedAtMs = storedAt.get(value.key);
        yield { ...value, ...(storedAtMs !== undefined && { storedAtMs }) };
      }
    },
  };
  return { connector, clock };
}

/** A prefix hash for tests: the number, 64 digits long. */
export const hashOf = (number: number): string => number.toString(16).padStart(64, '0');

/** Puts a run of small chunks under these hashes. */
export async function putRun(connector: StorageConnector, hashes: readonly string[], namespace: Partial<Namespace> = {}, layout: KvLayout = SMALL): Promise<RunManifest> {
  const { tokens: _, ...geometry } = layout;
  const store = new KvStore({ connector, namespace: { model: 'tiny', geometry, ...namespace }, groupTokens: 16 });
  const manifest = await store.putRun(hashes.map((hash) => ({ hash, tensor: tensorOf(layout, Number.parseInt(hash, 16)) })));
  await store.close();
  return manifest;
}

/** Turns a bit of the value at `key`. */
export async function damage(connector: StorageConnector, key: string, at = -1): Promise<void> {
  const value = await connector.get(key);
  if (value === undefined) throw new Error(`nothing is stored at ${key}`);
  const index = at < 0 ? value.length + at : at;
  value[index] = (value[index] ?? 0) ^ 4;
  await connector.put(key, value);
}

/** The bytes of all chunks. */
export async function chunkBytes(connector: StorageConnector): Promise<number> {
  let sum = 0;
  for await (const { bytes } of connector.list('chunks/')) sum += bytes;
  return sum;
}
