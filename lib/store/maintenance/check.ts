import type { CallOptions, ListedValue, StorageConnector } from '../connector.js';
import { unpackManifest, type NamespaceDescription, type RunManifest } from '../manifest.js';
import { chunkKey, parseKey } from '../namespace.js';
import { inParallel } from './in-parallel.js';
import { checkObject, distrustOf, readRun } from '../stored-value.js';

/** Options of `checkStore`. */
export interface StoreCheckOptions extends CallOptions {
  /** Replace what is damaged by what `from` has, or else delete it. Default false: only tell. */
  readonly repair?: boolean;
  /** A store with copies of the same objects. Default: none, damaged values are deleted. */
  readonly from?: StorageConnector;
  /** Objects that are read at once, at least 1; each is held in memory whole. Default 4. */
  readonly concurrency?: number;
  /** Told of each value that is not sound. */
  readonly onFinding?: (finding: StoreFinding) => void;
  /** Told after each value how many were read, and of how many bytes. */
  readonly onProgress?: (values: number, bytes: number) => void;
}

/** One value that is not sound. */
export interface StoreFinding {
  readonly key: string;
  /**
   * `damaged`: not what was put, or not what belongs there. `incomplete`: a run of which a chunk is gone. `unknown`: of a version, coder or
   * field that this version does not know; never touched.
   */
  readonly problem: 'damaged' | 'incomplete' | 'unknown';
  /** What was found. */
  readonly message: string;
  /** What was done about it. */
  readonly action: 'none' | 'replaced' | 'deleted';
}

/** What a check found. */
export interface StoreCheck {
  readonly chunks: number;
  readonly runs: number;
  /** Bytes read. */
  readonly bytes: number;
  readonly damaged: number;
  readonly incomplete: number;
  readonly unknown: number;
  /** Of the damaged and incomplete ones, those that were replaced or deleted. */
  readonly replaced: number;
  readonly deleted: number;
}

const CONCURRENCY = 4;

/** Throws unless the value is what belongs at the key. */
type Judge = (bytes: Uint8Array, key: string) => void;

/**
 * Reads every chunk and every manifest whole and checks each byte against its checksum, each object against its key and, where a run tells it,
 * against its namespace, and that each run has its chunks. With `repair` nothing damaged is left, and nothing that is sound or unknown is touched.
 * Rejects as the connectors do, or with the signal's reason; what was repaired by then stays so.
 */
export async function checkStore(connector: StorageConnector, options: StoreCheckOptions = {}): Promise<StoreCheck> {
  const { concurrency = CONCURRENCY } = options;
  if (!Number.isSafeInteger(concurrency) || concurrency < 1) throw new RangeError(`expected \`concurrency\` to be an integer of at least 1, got ${concurrency}`);
  return new Check(connector, options, concurrency).run();
}

class Check {
  readonly #connector: StorageConnector;
  readonly #options: StoreCheckOptions;
  readonly #call: CallOptions;
  readonly #concurrency: number;
  readonly #namespaces = new Map<string, NamespaceDescription>();
  readonly #totals = { chunks: 0, runs: 0, bytes: 0, damaged: 0, incomplete: 0, unknown: 0, replaced: 0, deleted: 0 };

  constructor(connector: StorageConnector, options: StoreCheckOptions, concurrency: number) {
    this.#connector = connector;
    this.#options = options;
    this.#call = options.signal ? { signal: options.signal } : {};
    this.#concurrency = concurrency;
  }

  async run(): Promise<StoreCheck> {
    // What the storage itself finds damaged may not even be listed: swept, it is a chunk that is gone.
    if (this.#options.repair === true) await this.#connector.sweep?.(this.#call);
    // Manifests first, because they tell what the namespace of a chunk means; whether their chunks are there last, when those are repaired.
    await this.#forEach('runs', (value) => this.#checkValue(value, (bytes, key) => this.#checkManifest(bytes, key)));
    await this.#forEach('chunks', (value) => this.#checkValue(value, (bytes, key) => this.#checkChunk(bytes, key)));
    await this.#forEach('runs', ({ key }) => this.#checkComplete(key));
    return this.#totals;
  }

  #checkManifest(bytes: Uint8Array, key: string): void {
    const { namespace, description } = unpackManifest(bytes, key);
    this.#namespaces.set(namespace, description);
  }

  #checkChunk(bytes: Uint8Array, key: string): void {
    checkObject(bytes, key, this.#namespaces.get(parseKey(key)?.namespace ?? ''));
  }

  async #checkValue({ key }: ListedValue, check: Judge): Promise<void> {
    const error = await this.#flaw(this.#connector, key, check);
    this.#totals[key.startsWith('runs/') ? 'runs' : 'chunks']++;
    this.#options.onProgress?.(this.#totals.chunks + this.#totals.runs, this.#totals.bytes);
    if (error === undefined) return;
    const problem = distrustOf(error) ?? 'damaged';
    const action = problem === 'damaged' && this.#options.repair === true ? await this.#repair(key, check) : 'none';
    if (action !== undefined) this.#tell({ key, problem, message: error.message, action });
  }

  /** What is wrong with a stored value; undefined if nothing is, or it is gone. */
  async #flaw(connector: StorageConnector, key: string, check: Judge): Promise<Error | undefined> {
    try {
      const bytes = await connector.get(key, this.#call);
      if (bytes === undefined) return undefined;
      this.#totals.bytes += bytes.length;
      check(bytes, key);
      return undefined;
    } catch (error) {
      if (!(error instanceof Error) || distrustOf(error) === undefined) throw error;
      return error;
    }
  }

  /** Undefined where there is nothing to repair any more. */
  async #repair(key: string, check: Judge): Promise<StoreFinding['action'] | undefined> {
    // Looked at again: it may have been put anew meanwhile, or only the reading of it failed.
    if ((await this.#flaw(this.#connector, key, check)) === undefined) return undefined;
    // A storage of several copies may have a sound one itself; if not, it has deleted them.
    const own = await this.#connector.repair?.(key, (bytes) => isSound(bytes, key, check), this.#call);
    if (own !== undefined && own.sound + own.replaced > 0) return 'replaced';
    const copy = await this.#soundCopy(key, check);
    if (copy === undefined) return (await this.#connector.delete(key, this.#call)) || (own?.deleted ?? 0) > 0 ? 'deleted' : undefined;
    await this.#connector.put(key, copy, this.#call);
    return 'replaced';
  }

  async #soundCopy(key: string, check: Judge): Promise<Uint8Array | undefined> {
    const { from } = this.#options;
    if (from === undefined) return undefined;
    try {
      const copy = await from.get(key, this.#call);
      if (copy !== undefined) check(copy, key);
      return copy;
    } catch (error) {
      if (distrustOf(error) === undefined) throw error;
      return undefined; // no better there
    }
  }

  async #checkComplete(key: string): Promise<void> {
    const run = await this.#readRun(key);
    if (run === undefined) return;
    const missing: string[] = [];
    for (const { hash } of run.chunks) {
      const chunk = chunkKey(run.namespace, hash);
      if (!(await this.#connector.has(chunk, this.#call)) && !(await this.#restore(chunk))) missing.push(chunk);
    }
    if (missing.length === 0) return;
    const action = this.#options.repair === true && (await this.#connector.delete(key, this.#call)) ? 'deleted' : 'none';
    this.#tell({ key, problem: 'incomplete', message: `${missing.length} of the ${run.chunks.length} chunks of the run are gone, the first of them ${missing[0]}`, action });
  }

  // Unreadable manifests were told of when they were checked.
  async #readRun(key: string): Promise<RunManifest | undefined> {
    try {
      return await readRun(this.#connector, key, this.#call);
    } catch (error) {
      if (distrustOf(error) === undefined) throw error;
      return undefined;
    }
  }

  async #restore(chunk: string): Promise<boolean> {
    if (this.#options.repair !== true) return false;
    const copy = await this.#soundCopy(chunk, (bytes, key) => this.#checkChunk(bytes, key));
    if (copy === undefined) return false;
    await this.#connector.put(chunk, copy, this.#call);
    this.#tell({ key: chunk, problem: 'incomplete', message: `the chunk ${chunk} of a run was gone`, action: 'replaced' });
    return true;
  }

  #tell(finding: StoreFinding): void {
    this.#totals[finding.problem]++;
    if (finding.action !== 'none') this.#totals[finding.action]++;
    this.#options.onFinding?.(finding);
  }

  async #forEach(kind: 'chunks' | 'runs', work: (value: ListedValue) => Promise<void>): Promise<void> {
    for await (const _ of inParallel(this.#listed(kind), this.#concurrency, work));
  }

  async *#listed(kind: 'chunks' | 'runs'): AsyncGenerator<ListedValue> {
    for await (const value of this.#connector.list(`${kind}/`, this.#call)) if (parseKey(value.key) !== undefined) yield value;
  }
}

/** Whether a copy is what belongs at the key. One that this version cannot read may be sound for another. */
function isSound(bytes: Uint8Array, key: string, check: Judge): boolean {
  try {
    check(bytes, key);
    return true;
  } catch (error) {
    const distrust = distrustOf(error);
    if (distrust === undefined) throw error;
    return distrust === 'unknown';
  }
}
