// LMCache's objects put as ours.
import { KvError } from '../../../lib/errors.js';
import type { LmcacheDtype } from '../../../lib/key/lmcache-key.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import { namespaceDigest, type Namespace } from '../../../lib/store/namespace.js';
import { KvStore } from '../../../lib/store/store.js';
import type { KvTensor } from '../../../lib/types.js';
import { chunkTensor, dtypeOf, metadataOf, type TensorHints } from './chunk-tensor.js';
import { namespaceOf, packOrigin } from './identity.js';
import { inTurns } from './in-turns.js';
import type { LmcacheName } from './key-text.js';
import type { OpenedPlace } from './open-place.js';
import type { RemoteMetadata } from './remote-metadata.js';
import { listObjects, readObject } from './stored-objects.js';

/** How to import. */
export interface ImportOptions extends TensorHints {
  /** Only this model's objects, and its name where the form writes several alike. */
  readonly model?: string;
  /** Of a full chunk, where the form tells none. Without it such data are kept as bytes. */
  readonly shape?: readonly number[];
  /** Where the name tells none either, as in the multiprocess forms. */
  readonly dtype?: LmcacheDtype;
  readonly quality: string;
  readonly coder: string;
  readonly threads: number;
  /** Tokens of a section of this tensor. */
  readonly groupTokens: (tensor: KvTensor) => number;
  readonly signal: AbortSignal;
  /** Told after each object how many are put. */
  readonly onProgress: (chunks: number) => void;
  /** Told once of each reason why objects are kept as bytes. */
  readonly onBytes: (reason: string) => void;
  /** Told of each object that is left out, and why. */
  readonly onSkipped: (stored: string, reason: string) => void;
}

/** What was imported. */
export interface ImportSummary {
  readonly chunks: number;
  readonly rawBytes: number;
  readonly storedBytes: number;
  /** Objects of LMCache's that are damaged or not of a kind that is imported. */
  readonly skipped: number;
  /** What others stored there, and other models' objects. */
  readonly foreign: number;
}

const CONCURRENCY = 4;
// Of one object, not of the place: the others can still be imported.
const USELESS: ReadonlySet<unknown> = new Set(['KV_CORRUPT_OBJECT', 'KV_UNSUPPORTED']);

/** Puts every object of a place into a store. Rejects as place and store do, or with the signal's reason; what was put stays. */
export async function importObjects(from: OpenedPlace, connector: StorageConnector, options: ImportOptions): Promise<ImportSummary> {
  const { model, signal, onProgress, onSkipped } = options;
  const count = { chunks: 0, rawBytes: 0, storedBytes: 0, skipped: 0, foreign: 0 };
  const stores = storesOf(connector, options, (bytes) => (count.storedBytes += bytes));
  const warned = new Set<string>();

  const importOne = async (name: LmcacheName): Promise<void> => {
    if (name.kind === 'engine' && name.parts.layer !== undefined) throw new KvError('KV_UNSUPPORTED', 'it is one layer alone (use_layerwise)');
    const object = await readObject(from, name, (bytes) => bareMetadata(name, bytes, from.form.isFullOnly, options), { signal });
    if (object === undefined) throw new KvError('KV_UNSUPPORTED', 'it was deleted meanwhile, or only a part of it is there');
    const { tensor, notUnderstood } = chunkTensor(object.metadata, object.data, options);
    if (notUnderstood !== undefined && !warned.has(notUnderstood)) {
      warned.add(notUnderstood);
      options.onBytes(notUnderstood);
    }
    const { tokens: _, ...geometry } = tensor.layout;
    const namespace = namespaceOf(name, geometry);
    if (namespace === undefined) throw new KvError('KV_UNSUPPORTED', 'its rank is not below its number of workers');
    await stores.of(namespace, tensor).put(name.parts.hash, tensor, { signal, metadata: packOrigin({ name, metadata: object.metadata }) });
    count.rawBytes += object.data.length;
    onProgress(++count.chunks);
  };

  try {
    await inTurns(listObjects(from, model, { signal }), CONCURRENCY, async ({ stored, name }) => {
      signal.throwIfAborted();
      if (name === undefined) return void count.foreign++;
      try {
        await importOne(name);
      } catch (error) {
        if (!(error instanceof KvError && USELESS.has(error.code))) throw error;
        count.skipped++;
        onSkipped(stored, error.message);
      }
    });
  } finally {
    await stores.close();
  }
  return count;
}

// What is known of data that come without metadata.
function bareMetadata(name: LmcacheName, bytes: number, isFullOnly: boolean, { shape, dtype: said, order }: ImportOptions): RemoteMetadata {
  const dtype = name.kind === 'engine' ? name.parts.dtype : said;
  if (shape === undefined || dtype === undefined || dtypeOf(dtype) === undefined) return metadataOf('UNDEFINED', 'uint8', [bytes]);
  const format = order === 'mla' ? 'KV_MLA_FMT' : 'KV_2LTD';
  const full = metadataOf(format, dtype, shape);
  if (bytes === full.length) return full;
  // The last chunk of a sequence, where LMCache was told to keep those: fewer tokens, which are the dimension before the last.
  const tokenAt = shape.length - 2;
  const tokenBytes = full.length / (shape[tokenAt] ?? 1);
  if (isFullOnly || bytes % tokenBytes !== 0 || bytes > full.length) {
    throw new KvError('KV_CORRUPT_OBJECT', `it has ${bytes} bytes where [${shape.join(', ')}] of ${dtype} has ${full.length}; check shape and dtype, or it is damaged`);
  }
  return metadataOf(format, dtype, shape.with(tokenAt, bytes / tokenBytes));
}

interface Stores {
  /** The store of a namespace, for tensors like this one. */
  of(namespace: Namespace, tensor: KvTensor): KvStore;
  close(): Promise<void>;
}

function storesOf(connector: StorageConnector, { quality, coder, threads, groupTokens }: ImportOptions, onStored: (bytes: number) => void): Stores {
  const counted = countingPuts(connector, onStored);
  const stores = new Map<string, KvStore>();
  return {
    of(open, tensor) {
      const namespace = { ...open, quality };
      const digest = namespaceDigest(namespace);
      const store = stores.get(digest) ?? new KvStore({ connector: counted, namespace, coder, threads, groupTokens: groupTokens(tensor), concurrency: CONCURRENCY });
      stores.set(digest, store);
      return store;
    },
    close: async () => void (await Promise.all([...stores.values()].map((store) => store.close()))),
  };
}

function countingPuts(inner: StorageConnector, onStored: (bytes: number) => void): StorageConnector {
  return {
    name: inner.name,
    supports: inner.supports,
    get: (key, options) => inner.get(key, options),
    async put(key, value, options) {
      await inner.put(key, value, options);
      onStored(value.byteLength);
    },
    has: (key, options) => inner.has(key, options),
    delete: (key, options) => inner.delete(key, options),
    list: (prefix, options) => inner.list(prefix, options),
    close: () => inner.close(),
  };
}
