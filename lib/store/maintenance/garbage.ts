// What can go from a store. Objects are listed and never read. Each delete takes one whole value, chunks before the runs that list them: what
// an abort leaves behind is at worst a run with a chunk missing, which readers take for a miss and the next collection deletes.
import { KvError } from '../../errors.js';
import type { CallOptions, ListedValue, StorageConnector } from '../connector.js';
import type { RunManifest } from '../manifest.js';
import { chunkKey, parseKey } from '../namespace.js';
import { chunkAges, type ChunkAges } from './chunk-ages.js';
import { inParallel } from './in-parallel.js';
import { distrustOf, readRun } from '../stored-value.js';

/** Options of `collectGarbage`. */
export interface GarbageOptions extends CallOptions {
  /** Delete chunks, those stored longest ago first, until at most this many bytes of chunks are left; from 0. Default: no limit. */
  readonly maxBytes?: number;
  /** Delete chunks stored longer ago than this, in milliseconds, from 0. Default: none for their age. */
  readonly olderThanMs?: number;
  /** Delete chunks that no run lists and that were stored over an hour ago: a run that is being put gets its manifest last. Default false. */
  readonly orphans?: boolean;
  /** Find out, but delete nothing. Default false. */
  readonly dryRun?: boolean;
  /** Told after each value that was looked at. */
  readonly onProgress?: (step: GarbageStep, values: number) => void;
  /** Clock, in milliseconds since 1970. Default: `Date.now`. */
  readonly now?: () => number;
}

/** The passes of a collection, in this order. */
export type GarbageStep = 'reading runs' | 'listing chunks' | 'evicting chunks' | 'checking runs';

/** Values counted together. */
export interface DeletedTotal {
  readonly count: number;
  readonly bytes: number;
}

/** What was deleted, or in a dry run would have been. */
export interface Garbage {
  /** What the storage removed by itself: leftovers of puts that broke off, damaged entries, values whose time is over. Zero in a dry run. */
  readonly swept: DeletedTotal;
  /** Chunks older than `olderThanMs`. */
  readonly expired: DeletedTotal;
  /** Chunks that no run lists. */
  readonly orphaned: DeletedTotal;
  /** Chunks that went so that `maxBytes` holds. */
  readonly evicted: DeletedTotal;
  /** Manifests of runs of which a chunk is gone. */
  readonly brokenRuns: DeletedTotal;
  /** Manifests that could not be read and were left alone: `checkStore` judges them. */
  readonly unreadableRuns: number;
  /** Chunks whose age the storage does not know: none goes for its age, and `maxBytes` takes them first. */
  readonly unknownAges: number;
  /** Chunks that are left. */
  readonly left: DeletedTotal;
}

const CONCURRENCY = 16;
const ORPHAN_AGE_MS = 3_600_000;

type Reason = 'expired' | 'orphaned' | 'evicted' | 'brokenRuns';

/**
 * Deletes what a store need not keep. Throws a RangeError for a bound that cannot be. Rejects as the connector does, or with the signal's
 * reason; what was deleted by then is gone, and nothing else.
 */
export async function collectGarbage(connector: StorageConnector, options: GarbageOptions = {}): Promise<Garbage> {
  checkBound('maxBytes', options.maxBytes);
  checkBound('olderThanMs', options.olderThanMs);
  return new Collection(connector, options).run();
}

class Collection {
  readonly #connector: StorageConnector;
  readonly #options: GarbageOptions;
  readonly #call: CallOptions;
  readonly #nowMs: number;
  readonly #totals: Record<Reason, { count: number; bytes: number }> = { expired: total(), orphaned: total(), evicted: total(), brokenRuns: total() };
  /** Of a dry run: what a real one would have deleted by now. */
  readonly #pretended = new Set<string>();

  constructor(connector: StorageConnector, options: GarbageOptions) {
    this.#connector = connector;
    this.#options = options;
    this.#call = options.signal ? { signal: options.signal } : {};
    this.#nowMs = (options.now ?? Date.now)();
  }

  async run(): Promise<Garbage> {
    const swept = await this.#sweep();
    const listedInRuns = this.#options.orphans === true ? await this.#chunksInRuns() : undefined;
    const survivors = await this.#removeByAge(listedInRuns);
    await this.#evict(survivors);
    const unreadableRuns = await this.#removeBrokenRuns();
    const { evicted } = this.#totals;
    return { swept, ...this.#totals, unreadableRuns, unknownAges: survivors.unknown, left: { count: survivors.count - evicted.count, bytes: survivors.bytes - evicted.bytes } };
  }

  async #sweep(): Promise<DeletedTotal> {
    const swept = this.#options.dryRun === true ? undefined : await this.#connector.sweep?.(this.#call);
    return { count: swept?.removed ?? 0, bytes: swept?.bytes ?? 0 };
  }

  async #chunksInRuns(): Promise<ReadonlySet<string>> {
    const keys = new Set<string>();
    await this.#forEach('runs', 'reading runs', async ({ key }) => {
      const run = await this.#runThatMatters(key);
      for (const { hash } of run?.chunks ?? []) keys.add(chunkKey(run?.namespace ?? '', hash));
    });
    return keys;
  }

  // What an unreadable manifest lists is not known, and so no chunk could be called an orphan.
  async #runThatMatters(key: string): Promise<RunManifest | undefined> {
    try {
      return await readRun(this.#connector, key, this.#call);
    } catch (cause) {
      if (distrustOf(cause) === undefined) throw cause;
      throw new KvError('KV_CORRUPT_OBJECT', `orphans cannot be told while the manifest at ${key} cannot be read; repair the store first`, { cause });
    }
  }

  async #removeByAge(listedInRuns: ReadonlySet<string> | undefined): Promise<ChunkAges> {
    const { olderThanMs = Infinity } = this.#options;
    const survivors = chunkAges();
    await this.#forEach('chunks', 'listing chunks', async (value) => {
      const ageMs = value.storedAtMs === undefined ? -Infinity : this.#nowMs - value.storedAtMs;
      const isOrphan = listedInRuns !== undefined && !listedInRuns.has(value.key) && ageMs > ORPHAN_AGE_MS;
      if (ageMs > olderThanMs) await this.#remove(value, 'expired');
      else if (isOrphan) await this.#remove(value, 'orphaned');
      else survivors.add(value.bytes, value.storedAtMs);
    });
    return survivors;
  }

  // By a second listing, so that no key has to be held. What was put since the first one is younger than any cutoff.
  async #evict(survivors: ChunkAges): Promise<void> {
    const cutoff = survivors.cutoff(this.#options.maxBytes ?? Infinity);
    if (cutoff === undefined) return;
    let bytesThen = cutoff.bytesThen;
    await this.#forEach('chunks', 'evicting chunks', async (value) => {
      const storedAtMs = value.storedAtMs ?? -Infinity;
      if (storedAtMs > cutoff.storedAtMs || this.#pretended.has(value.key)) return;
      if (storedAtMs === cutoff.storedAtMs) {
        if (bytesThen <= 0) return;
        bytesThen -= value.bytes;
      }
      await this.#remove(value, 'evicted');
    });
  }

  async #removeBrokenRuns(): Promise<number> {
    let unreadable = 0;
    await this.#forEach('runs', 'checking runs', async (value) => {
      try {
        if (await this.#isBroken(value.key)) await this.#remove(value, 'brokenRuns');
      } catch (error) {
        if (distrustOf(error) === undefined) throw error;
        unreadable++;
      }
    });
    return unreadable;
  }

  // Chunks are looked for after their manifest was read: a run that is put meanwhile has them all.
  async #isBroken(key: string): Promise<boolean> {
    const run = await readRun(this.#connector, key, this.#call);
    for (const { hash } of run?.chunks ?? []) {
      const chunk = chunkKey(run?.namespace ?? '', hash);
      if (this.#pretended.has(chunk) || !(await this.#connector.has(chunk, this.#call))) return true;
    }
    return false;
  }

  async #remove({ key, bytes }: ListedValue, why: Reason): Promise<void> {
    if (this.#options.dryRun === true) this.#pretended.add(key);
    else if (!(await this.#connector.delete(key, this.#call))) return; // gone by itself
    this.#totals[why].count++;
    this.#totals[why].bytes += bytes;
  }

  async #forEach(kind: 'chunks' | 'runs', step: GarbageStep, work: (value: ListedValue) => Promise<void>): Promise<void> {
    let done = 0;
    for await (const _ of inParallel(this.#listed(kind), CONCURRENCY, work)) this.#options.onProgress?.(step, ++done);
  }

  async *#listed(kind: 'chunks' | 'runs'): AsyncGenerator<ListedValue> {
    for await (const value of this.#connector.list(`${kind}/`, this.#call)) if (parseKey(value.key) !== undefined) yield value;
  }
}

const total = (): { count: number; bytes: number } => ({ count: 0, bytes: 0 });

function checkBound(name: string, value: number | undefined): void {
  if (value !== undefined && !(value >= 0)) throw new RangeError(`expected \`${name}\` to be a number from 0, got ${value}`);
}
