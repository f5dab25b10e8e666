import type { CallOptions, StorageConnector } from '../connector.js';
import type { NamespaceDescription } from '../manifest.js';
import { parseKey } from '../namespace.js';
import { inParallel } from './in-parallel.js';
import { distrustOf, readRun } from '../stored-value.js';

/** Values counted together. */
export interface StoredTotal {
  readonly count: number;
  readonly bytes: number;
}

/** What a store holds of one namespace. */
export interface NamespaceStats {
  readonly namespace: string;
  readonly chunks: StoredTotal;
  readonly runs: StoredTotal;
  /** From one of its runs; undefined where there is none that can be read. */
  readonly description?: NamespaceDescription;
}

/** What a store holds. */
export interface StoreStats {
  readonly chunks: StoredTotal;
  /** Manifests. */
  readonly runs: StoredTotal;
  /** What is neither a chunk nor a run of ours. */
  readonly others: StoredTotal;
  /** The largest first. */
  readonly namespaces: readonly NamespaceStats[];
  /** Chunks by size, the smallest first: those of more than half of `upToBytes` and at most that; sizes that no chunk has are left out. */
  readonly sizes: readonly (StoredTotal & { readonly upToBytes: number })[];
  /** Of all values, in milliseconds since 1970; undefined where the storage does not know. */
  readonly oldestAtMs?: number;
  readonly newestAtMs?: number;
}

/** Options of `storeStats`. */
export interface StoreStatsOptions extends CallOptions {
  /** Told now and then how many values were counted. */
  readonly onProgress?: (count: number) => void;
}

const CONCURRENCY = 8;

/** Counts what lies in a storage connector by listing it once; of each namespace one manifest is read. Rejects as the connector does. */
export async function storeStats(connector: StorageConnector, { onProgress, ...call }: StoreStatsOptions = {}): Promise<StoreStats> {
  const all = { chunks: total(), runs: total(), others: total() };
  const namespaces = new Map<string, Found>();
  const sizes = new Map<number, Total>();
  let oldestAtMs = Infinity;
  let newestAtMs = -Infinity;
  let count = 0;
  for await (const { key, bytes, storedAtMs } of connector.list('', call)) {
    onProgress?.(++count);
    if (storedAtMs !== undefined) {
      oldestAtMs = Math.min(oldestAtMs, storedAtMs);
      newestAtMs = Math.max(newestAtMs, storedAtMs);
    }
    const parsed = parseKey(key);
    add(all[parsed?.kind ?? 'others'], bytes);
    if (parsed === undefined) continue;
    const found = entry<string, Found>(namespaces, parsed.namespace, () => ({ chunks: total(), runs: total() }));
    add(found[parsed.kind], bytes);
    if (parsed.kind === 'runs') found.runKey ??= key;
    else add(entry(sizes, bucketOf(bytes), total), bytes);
  }
  const described: NamespaceStats[] = [];
  const describe = async ([namespace, { runKey, chunks, runs }]: [string, Found]): Promise<NamespaceStats> => {
    const description = runKey === undefined ? undefined : await descriptionIn(connector, runKey, call);
    return { namespace, chunks, runs, ...(description && { description }) };
  };
  for await (const stats of inParallel(each(namespaces), CONCURRENCY, describe)) described.push(stats);
  return {
    ...all,
    namespaces: described.sort((a, b) => b.chunks.bytes - a.chunks.bytes),
    sizes: [...sizes].sort(([a], [b]) => a - b).map(([upToBytes, found]) => ({ upToBytes, ...found })),
    ...(newestAtMs >= oldestAtMs && { oldestAtMs, newestAtMs }),
  };
}

interface Total {
  count: number;
  bytes: number;
}

/** Of one namespace, while it is counted. */
interface Found {
  readonly chunks: Total;
  readonly runs: Total;
  runKey?: string;
}

const total = (): Total => ({ count: 0, bytes: 0 });

function add(to: Total, bytes: number): void {
  to.count++;
  to.bytes += bytes;
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const there = map.get(key) ?? make();
  map.set(key, there);
  return there;
}

function bucketOf(bytes: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, bytes)));
}

async function descriptionIn(connector: StorageConnector, runKey: string, call: CallOptions): Promise<NamespaceDescription | undefined> {
  try {
    return (await readRun(connector, runKey, call))?.description;
  } catch (error) {
    if (distrustOf(error) === undefined) throw error;
    return undefined; // `checkStore` is the one to tell
  }
}

async function* each<T>(values: Iterable<T>): AsyncGenerator<T> {
  yield* values;
}
