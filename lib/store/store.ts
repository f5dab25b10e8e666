import { withCancelFlag } from '../codec/cancel.js';
import { encode, encodeBound } from '../codec/codec.js';
import { wholeChunk } from '../codec/coders/coder.js';
import { canonicalLayout, tensorBytes, unpackLayout } from '../codec/layout.js';
import { rungOf } from '../codec/rungs.js';
import { readPreamble } from '../container/object.js';
import { KvError } from '../errors.js';
import type { PrefixHash } from '../key/hash-chain.js';
import type { EncodeOptions } from '../options.js';
import type { KvTensor } from '../types.js';
import { bufferPool, type BufferPool } from './buffer-pool.js';
import { callQueue, type CallQueue } from './call-queue.js';
import type { CallOptions } from './connector.js';
import { packManifest, unpackManifest, type RunChunk, type RunManifest } from './manifest.js';
import { chunkKey, hasGeometry, namespaceDigest, runKey } from './namespace.js';
import { checkPart, planPart, type PlannedPart } from './part.js';
import { checkFetchOptions, checkPutOptions, checkStoreOptions, STORE_DEFAULTS, type FetchOptions, type KvStoreOptions, type LookupOptions, type PutTensorOptions, type StoreCallOptions } from './store-options.js';
import { checkStored, distrustOf } from './stored-value.js';
import { openBytes, openByRange, openWhole, type ObjectPlace, type OpenObject } from './stored-object.js';
import { checkLimit, timeLimit } from './time-limit.js';
import { canonical, copyTokens, isCanonical } from './token-rows.js';

/** A tensor as it comes out of a store. */
export interface FetchedTensor extends KvTensor {
  /** Token ids of its tokens, if they were stored. */
  readonly tokenIds?: Int32Array;
  /** Text that was stored with the object. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** One chunk to put as part of a run. */
export interface RunTensor {
  readonly hash: PrefixHash;
  readonly tensor: KvTensor;
  readonly tokenIds?: Int32Array;
  /** Tokens of the sequence that it covers. Default: those of its layout, which tells nothing in order `bytes`. */
  readonly tokens?: number;
}

/** Options of `putRun`; its deadline is that of the whole run. */
export interface PutRunOptions extends StoreCallOptions {
  /** Text to store with the run and give back. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Told after each chunk how many are stored. */
  readonly onProgress?: (chunks: number) => void;
}

/**
 * Keeps the KV cache of prefixes in a storage connector: one object a chunk, found by prefix hash inside one namespace.
 *
 * A miss is `undefined`, no error; so is an object that is damaged, made for another key or of another geometry, which `onCorrupt`
 * is told of. Calls reject with what the connector rejects with, KV_CONNECTOR_TIMEOUT after `deadlineMs`, KV_CLOSED after `close`,
 * or the signal's reason.
 */
export class KvStore {
  /** Digest of the namespace: the part of its storage keys that all its chunks share. */
  readonly namespace: string;
  readonly #options: KvStoreOptions;
  readonly #buffers: BufferPool;
  // One queue each, so that puts to a slow store do not hold up fetches.
  readonly #puts: CallQueue;
  readonly #fetches: CallQueue;
  readonly #running = new Set<Promise<unknown>>();
  #largestObject = 1 << 20;
  #isClosed = false;

  /** Throws a TypeError or RangeError for an option that cannot be. */
  constructor(options: KvStoreOptions) {
    checkStoreOptions(options);
    this.namespace = namespaceDigest(options.namespace);
    this.#options = options;
    const concurrency = options.concurrency ?? STORE_DEFAULTS.concurrency;
    this.#buffers = bufferPool(2 * concurrency);
    this.#puts = callQueue(concurrency);
    this.#fetches = callQueue(concurrency);
  }

  /**
   * Stores one chunk; it replaces what was stored under its hash. Rejects with a RangeError if the tensor is not of the store's
   * geometry, and as `encode` and the connector's `put` do.
   */
  async put(hash: PrefixHash, tensor: KvTensor, options: PutTensorOptions = {}): Promise<void> {
    await this.#call(options, async (call) => {
      checkPutOptions(options);
      return this.#putChunk({ hash, tensor, ...options }, call);
    });
  }

  /** The chunk, or the part of it that the options name: only the sections of that part are read. Undefined is a miss. */
  fetch(hash: PrefixHash, options: FetchOptions = {}): Promise<FetchedTensor | undefined> {
    return this.#call(options, async (call) => {
      checkFetchOptions(options);
      const { geometry } = this.#options.namespace;
      checkPart(options, geometry.layers);
      if (isPart(options) && geometry.order === 'bytes') throw new RangeError('expected no `layers` or `tokens`: the store holds bytes, whose layout nobody knows');
      const key = chunkKey(this.#digest(options), hash);
      return this.#fetches.run(call, () => this.#unlessUseless(key, call, () => this.#fetchObject(key, { ...options, ...call })));
    });
  }

  /** Length of the longest leading run of hits. A hit says that an object is there, not that it is sound: only `fetch` reads it. */
  lookup(hashes: readonly PrefixHash[], options: LookupOptions = {}): Promise<number> {
    return this.#call(options, async (call) => {
      const { connector, concurrency = STORE_DEFAULTS.concurrency } = this.#options;
      const keys = hashes.map((hash) => chunkKey(this.#digest(options), hash));
      for (let begin = 0; begin < keys.length; begin += concurrency) {
        const found = await Promise.all(keys.slice(begin, begin + concurrency).map((key) => connector.has(key, call)));
        const miss = found.indexOf(false);
        if (miss !== -1) return begin + miss;
      }
      return keys.length;
    });
  }

  /** Stores the chunks of one prefix in order, then the manifest that lists them. The iterable is read only as fast as chunks are stored. */
  putRun(tensors: Iterable<RunTensor>, options: PutRunOptions = {}): Promise<RunManifest> {
    return this.#call(options, async (call) => {
      const chunks = await this.#putChunks(tensors, { ...options, ...call });
      const { salt, ...description } = this.#options.namespace;
      const manifest: RunManifest = {
        namespace: this.namespace,
        description: { ...description, quality: this.#rungName(), isSalted: salt !== undefined },
        chunks,
        metadata: options.metadata ?? {},
      };
      const last = chunks.at(-1);
      if (last === undefined) throw new RangeError('expected a run to have at least one chunk');
      await this.#options.connector.put(runKey(this.namespace, last.hash), packManifest(manifest), call);
      return manifest;
    });
  }

  /** The manifest of the run that ends with `hash`. Undefined is a miss. */
  lookupRun(hash: PrefixHash, options: LookupOptions = {}): Promise<RunManifest | undefined> {
    return this.#call(options, async (call) => {
      const key = runKey(this.#digest(options), hash);
      return this.#unlessUseless(key, call, async () => {
        const bytes = await this.#options.connector.get(key, call);
        return bytes && unpackManifest(bytes, key);
      });
    });
  }

  /** Refuses new calls, waits for the running ones and frees the store's memory. The connector stays open. Calling it twice is fine. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled(this.#running);
    this.#buffers.clear();
  }

  async #call<T>({ deadlineMs, ...options }: StoreCallOptions, work: (call: CallOptions) => Promise<T>): Promise<T> {
    if (this.#isClosed) throw new KvError('KV_CLOSED', 'the store is closed; make a new one');
    checkLimit('deadlineMs', deadlineMs);
    const { signal, release } = timeLimit(options, deadlineMs, 'the store');
    const call = work(signal ? { signal } : {});
    this.#running.add(call);
    try {
      return await call;
    } finally {
      release();
      this.#running.delete(call);
    }
  }

  // Several loops share one iterator, so that at most as many tensors exist as are worked on.
  async #putChunks(tensors: Iterable<RunTensor>, { signal, onProgress }: PutRunOptions): Promise<RunChunk[]> {
    const failure = new AbortController();
    const options = { signal: signal ? AbortSignal.any([signal, failure.signal]) : failure.signal };
    const chunks: RunChunk[] = [];
    const entries = numbered(tensors);
    let done = 0;
    const loops = Array.from({ length: this.#options.concurrency ?? STORE_DEFAULTS.concurrency }, async () => {
      try {
        for (let next = entries.next(); next.done !== true; next = entries.next()) {
          options.signal.throwIfAborted();
          const [index, entry] = next.value;
          chunks[index] = await this.#putChunk(entry, options);
          onProgress?.(++done);
        }
      } catch (error) {
        failure.abort(error);
        throw error;
      }
    });
    await Promise.allSettled(loops);
    signal?.throwIfAborted();
    failure.signal.throwIfAborted();
    return chunks;
  }

  async #putChunk(entry: RunTensor & Pick<PutTensorOptions, 'metadata'>, options: CallOptions): Promise<RunChunk> {
    const { connector, namespace, coder, groupTokens, verify, threads } = this.#options;
    const { hash, tensor, tokenIds, metadata, tokens = tensor.layout.tokens } = entry;
    if (!hasGeometry(tensor.layout, namespace.geometry)) throw new RangeError('expected `tensor` to have the geometry of the store, its tokens apart');
    const encoding: EncodeOptions = {
      ...defined({ coder, groupTokens, verify, threads, tokenIds, metadata }),
      quality: this.#rungName(),
      key: chunkKey(this.namespace, hash),
    };
    return this.#puts.run(options, () =>
      this.#buffers.use(encodeBound(tensor, encoding), async (into) => {
        const object = await encode(tensor, { ...encoding, into, ...signalOf(options) });
        await connector.put(chunkKey(this.namespace, hash), object, signalOf(options));
        this.#note(object.byteLength);
        return { hash, tokens, objectBytes: object.byteLength, root: readPreamble(object).headerChecksum };
      }),
    );
  }

  async #fetchObject(key: string, options: FetchOptions): Promise<FetchedTensor | undefined> {
    const place: ObjectPlace = { connector: this.#options.connector, key, ...signalOf(options) };
    const held = place.connector.held?.(key);
    if (held !== undefined) return this.#decode(openBytes(held), key, options);
    if (isPart(options) && place.connector.supports.range) {
      const object = await openByRange(place, this.#buffers);
      return object && this.#decode(object, key, options);
    }
    return this.#buffers.use(this.#largestObject, async (buffer) => {
      const object = await openWhole(place, buffer);
      if (object === undefined) return undefined;
      this.#note(object.objectBytes);
      return this.#decode(object, key, options);
    });
  }

  async #decode(object: OpenObject, key: string, options: FetchOptions): Promise<FetchedTensor> {
    this.#checkHeader(object, key, options);
    const { header, chunk } = object;
    const part = isPart(options) ? planPart(chunk, options, options.storedOrder ?? false) : undefined;
    const layout = part?.layout ?? chunk.layout;
    const bytes = tensorBytes(layout);
    const data = options.into ?? new Uint8Array(bytes);
    if (data.byteLength !== bytes) throw new RangeError(`expected \`into\` to be ${bytes} bytes, got ${data.byteLength}`);
    const tensor = { layout, data, start: header.start + (part?.tokenBegin ?? 0) };
    if (part === undefined) await this.#decodeInto(object, tensor, options);
    else await this.#decodePart(object, part, tensor, options);
    const tokenIds = part ? header.tokenIds?.slice(part.tokenBegin, part.tokenBegin + layout.tokens) : header.tokenIds;
    return { ...tensor, ...defined({ tokenIds, metadata: header.metadata }) };
  }

  async #decodePart(object: OpenObject, part: PlannedPart, tensor: KvTensor, options: FetchOptions): Promise<void> {
    const { chunk, coder, header } = object;
    if (coder.sectionsOf(chunk, part.selection).length < header.lengths.length) return this.#decodeInto(object, tensor, options, part);
    // The coder needs the whole object for any part of it, and may not know rows: the part is cut out of the whole.
    await this.#buffers.use(tensorBytes(chunk.layout), async (buffer) => {
      const whole = { layout: chunk.layout, data: buffer.subarray(0, tensorBytes(chunk.layout)) };
      await this.#decodeInto(object, whole, options);
      const from = { tensor: canonical(whole), layer: part.selection.layerBegin, token: part.tokenBegin };
      const cut = isCanonical(tensor.layout) ? tensor : { layout: canonicalLayout(tensor.layout), data: new Uint8Array(tensor.data.byteLength) };
      copyTokens(from, { tensor: cut, token: 0 }, cut.layout.layers, cut.layout.tokens);
      if (cut !== tensor) tensor.data.set(unpackLayout(cut, tensor.layout).data);
    });
  }

  async #decodeInto({ chunk, coder, header, sections }: OpenObject, tensor: KvTensor, { signal }: CallOptions, part?: PlannedPart): Promise<void> {
    const selection = part?.selection ?? wholeChunk(chunk);
    const threads = this.#options.threads ?? STORE_DEFAULTS.threads;
    await sections(coder.sectionsOf(chunk, selection), (table, bytes) =>
      withCancelFlag(signal, (cancel) => coder.decode({ chunk, model: header.model, selection, sections: table, bytes }, tensor.layout, tensor.data, { cancel, threads })),
    );
  }

  #checkHeader({ header, chunk }: OpenObject, key: string, options: FetchOptions): void {
    const { namespace, maxBytes = STORE_DEFAULTS.maxBytes } = this.#options;
    if (header.key !== key) throw new KvError('KV_GEOMETRY_MISMATCH', `the object at ${key} was made for the key ${JSON.stringify(header.key)}`);
    if (!hasGeometry(chunk.layout, namespace.geometry)) throw new KvError('KV_GEOMETRY_MISMATCH', `the object at ${key} has another geometry than the store`);
    const rung = this.#rungName(options);
    if (header.rung !== rung) throw new KvError('KV_GEOMETRY_MISMATCH', `the object at ${key} is of rung ${header.rung}, not ${rung}`);
    if (header.tokenIds !== undefined && header.tokenIds.length !== chunk.layout.tokens) {
      throw new KvError('KV_CORRUPT_OBJECT', `the object at ${key} is damaged: it has ${header.tokenIds.length} token ids for ${chunk.layout.tokens} tokens`);
    }
    if (tensorBytes(chunk.layout) > maxBytes) throw new KvError('KV_UNSUPPORTED', `the object at ${key} holds a tensor of ${tensorBytes(chunk.layout)} bytes; \`maxBytes\` allows ${maxBytes}`);
  }

  // An object that is no use is a miss. A damaged one is read once more, in case only the way here damaged it, and then replaced by a
  // sound copy or deleted: otherwise every lookup would find it, and nobody would store it again.
  async #unlessUseless<T>(key: string, call: CallOptions, work: () => Promise<T>): Promise<T | undefined> {
    const remedies = [async () => true, () => this.#replaceOrDelete(key, call)];
    for (let isFirst = true; ; isFirst = false) {
      try {
        return await work();
      } catch (error) {
        const distrust = distrustOf(error);
        if (distrust === undefined) throw error;
        if (isFirst) this.#tellCorrupt(error, key);
        const remedy = distrust === 'damaged' ? remedies.shift() : undefined;
        if (!(await remedy?.())) return undefined;
      }
    }
  }

  /** Whether there may be a sound object now. */
  async #replaceOrDelete(key: string, call: CallOptions): Promise<boolean> {
    const { connector } = this.#options;
    try {
      if (connector.repair === undefined) {
        await connector.delete(key, call);
        return false;
      }
      const { sound, replaced } = await connector.repair(key, isSound, call);
      return sound + replaced > 0;
    } catch (error) {
      call.signal?.throwIfAborted();
      this.#tellCorrupt(error, key);
      return false; // the miss stands, and the next put replaces the object
    }
  }

  #tellCorrupt(error: unknown, key: string): void {
    this.#options.onCorrupt?.(error instanceof Error ? error : new Error(String(error)), key);
  }

  // Objects of one store are alike: the largest seen tells how much the next read asks for at once.
  #note(objectBytes: number): void {
    this.#largestObject = Math.max(this.#largestObject, objectBytes);
  }

  #digest({ quality }: LookupOptions): string {
    return quality === undefined ? this.namespace : namespaceDigest({ ...this.#options.namespace, quality });
  }

  #rungName({ quality = this.#options.namespace.quality ?? STORE_DEFAULTS.quality }: LookupOptions = {}): string {
    return rungOf(quality).name;
  }
}

/** Whether a stored copy is what was put. One that this version cannot read may be sound for another. */
function isSound(bytes: Uint8Array, key: string): boolean {
  try {
    checkStored(bytes, key);
    return true;
  } catch (error) {
    return distrustOf(error) === 'unknown';
  }
}

function isPart({ layers, tokens }: FetchOptions): boolean {
  return layers !== undefined || tokens !== undefined;
}

function signalOf({ signal }: CallOptions): CallOptions {
  return signal ? { signal } : {};
}

function* numbered<T>(values: Iterable<T>): Generator<readonly [number, T]> {
  let index = 0;
  for (const value of values) yield [index++, value];
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** The fields that have a value: an option that was not given must not be passed on as undefined. */
function defined<T extends object>(fields: T): Defined<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Defined<T>;
}
