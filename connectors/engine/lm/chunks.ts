// LMCache's chunks in a store of ours: coded as what they are, given back as they came.
import { rungOf } from '../../../lib/codec/rungs.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import { chunkKey, namespaceDigest, type KvGeometry, type Namespace } from '../../../lib/store/namespace.js';
import { KvStore } from '../../../lib/store/store.js';
import type { KvTensor } from '../../../lib/types.js';
import { metered } from '../daemon/meter.js';
import { chunkTensor, lmcacheData, type ChunkTensor } from '../lmcache/chunk-tensor.js';
import { namespaceOf, packOrigin, parseOrigin } from '../lmcache/identity.js';
import { textOf } from '../lmcache/key-text.js';
import type { RemoteMetadata } from '../lmcache/remote-metadata.js';
import { makeLayouts } from './layouts.js';
import type { EngineName } from './protocol.js';

/** What LMCache does not say of its tensors. */
export interface LmGeometry {
  /** Heads of K, and of V, on one worker. */
  readonly kvHeads: number;
  readonly headDim: number;
  /** How rows hold K and V where the first dimension is 1: `fused` for vLLM's pages on GPUs. Default: not said, such tensors are kept as bytes. */
  readonly order?: 'fused';
}

/** How chunks are kept. */
export interface LmChunksOptions {
  readonly connector: StorageConnector;
  /** Default: a row is taken for one head. */
  readonly geometry?: LmGeometry;
  /** Of tensors that are not kept as bytes. Default `exact`. */
  readonly quality?: string;
  /** Largest tensor, in bytes. */
  readonly maxBytes: number;
  /** Told of a reason why tensors are kept as bytes, once, and of each stored object that is taken for a miss. */
  readonly onWarning: (reason: string) => void;
}

/** A chunk as LMCache has it. */
export interface LmChunk {
  readonly metadata: RemoteMetadata;
  readonly data: Uint8Array;
}

/** How a chunk is stored. */
export interface StoredAs {
  /** Bytes that went to the store, or came from it. */
  readonly storedBytes: number;
  readonly rung: string;
}

/** The chunks of a store by LMCache's names. Every verb rejects as the store does, or with the signal's reason. */
export interface LmChunks {
  put(name: EngineName, chunk: LmChunk, signal: AbortSignal): Promise<StoredAs>;
  /** Undefined is a miss. */
  get(name: EngineName, signal: AbortSignal): Promise<(LmChunk & StoredAs) | undefined>;
  has(name: EngineName, signal: AbortSignal): Promise<boolean>;
  close(): Promise<void>;
}

// Tags make namespaces, and tags come from requests.
const MOST_STORES = 64;
const MOST_WARNINGS = 100;
const ROWS_A_SECTION = 4096;

/** Makes the chunks of a connector, which stays open when they are closed. */
export function makeLmChunks({ connector: inner, geometry, quality = 'exact', maxBytes, onWarning }: LmChunksOptions): LmChunks {
  const { connector, meter } = metered(inner);
  const layouts = makeLayouts(connector);
  const stores = new Map<string, KvStore>();
  const warned = new Set<string>();

  const storeOf = (name: EngineName, layout: KvGeometry): KvStore => {
    const namespace = lmNamespace(name, layout, quality);
    const digest = namespaceDigest(namespace);
    const found = stores.get(digest);
    const isBytes = layout.order === 'bytes';
    const store = found ?? new KvStore({ connector, namespace, maxBytes, ...(isBytes && { groupTokens: ROWS_A_SECTION }), onCorrupt: ({ message }) => onWarning(message) });
    // The one used last is the last to go.
    stores.delete(digest);
    stores.set(digest, store);
    const [oldest] = stores;
    if (stores.size > MOST_STORES && oldest !== undefined) {
      stores.delete(oldest[0]);
      void oldest[1].close();
    }
    return store;
  };

  const counted = async (store: KvStore, name: EngineName, layout: KvGeometry, work: () => Promise<void>): Promise<StoredAs> => {
    const watch = meter.watch(chunkKey(store.namespace, name.parts.hash));
    try {
      await work();
      return { storedBytes: watch.stop(), rung: rungOf(qualityOf(layout, quality)).name };
    } finally {
      watch.stop();
    }
  };

  const warnOnce = (reason: string): void => {
    if (warned.has(reason) || warned.size >= MOST_WARNINGS) return;
    warned.add(reason);
    onWarning(reason);
  };

  return {
    async put(name, { metadata, data }, signal) {
      const { tensor, notUnderstood } = tensorOf(metadata, data, geometry);
      if (notUnderstood !== undefined) warnOnce(`chunks of ${name.parts.model} are kept as bytes, which costs size: ${notUnderstood}`);
      const { tokens: _, ...layout } = tensor.layout;
      const store = storeOf(name, layout);
      await layouts.learn(name, layout, signal);
      return counted(store, name, layout, () => store.put(name.parts.hash, tensor, { signal, metadata: packOrigin({ name, metadata }) }));
    },

    async get(name, signal) {
      for (const layout of await layouts.of(name, signal)) {
        const store = storeOf(name, layout);
        let chunk: LmChunk | undefined;
        const storedAs = await counted(store, name, layout, async () => {
          const tensor = await store.fetch(name.parts.hash, { signal });
          chunk = tensor && chunkOf(name, tensor, tensor.metadata ?? {});
        });
        if (chunk !== undefined) return { ...chunk, ...storedAs };
      }
      return undefined;
    },

    async has(name, signal) {
      for (const layout of await layouts.of(name, signal)) if ((await storeOf(name, layout).lookup([name.parts.hash], { signal })) === 1) return true;
      return false;
    },

    async close() {
      await Promise.all([...stores.values()].map((store) => store.close()));
      await layouts.close();
    },
  };
}

// Where heads were said, only rows made of them are taken for K and V.
function tensorOf(metadata: RemoteMetadata, data: Uint8Array, geometry: LmGeometry | undefined): ChunkTensor {
  if (geometry === undefined) return chunkTensor(metadata, data);
  const { kvHeads, headDim, order } = geometry;
  const [group] = metadata.groups;
  const isJoined = metadata.format === 'KV_2LTD' && group?.shape[0] !== 2;
  if (metadata.format === 'KV_MLA_FMT') return chunkTensor(metadata, data);
  const hidden = (isJoined ? 2 : 1) * kvHeads * headDim;
  if (group?.shape.at(-1) !== hidden) {
    const notUnderstood = `its shape is [${group?.shape.join(', ')}], where ${kvHeads} heads of ${headDim} make rows of ${hidden}`;
    return { ...chunkTensor(metadata, data, { order: 'bytes' }), notUnderstood };
  }
  return chunkTensor(metadata, data, { headDim, ...(isJoined && order !== undefined && { order }) });
}

// What is not understood may not be changed.
function qualityOf({ order }: KvGeometry, quality: string): string {
  return order === 'bytes' ? 'exact' : quality;
}

// As an import gives it, and so finds what was imported; only a layer that is stored alone is none of those.
function lmNamespace(name: EngineName, geometry: KvGeometry, quality: string): Namespace {
  const { layer, workerId, worldSize } = name.parts;
  const namespace = namespaceOf(name, geometry);
  if (namespace === undefined) throw new RangeError(`expected a worker below ${worldSize}, got ${workerId}`);
  return { ...namespace, quality: qualityOf(geometry, quality), ...(layer !== undefined && { variant: `layer ${layer}` }) };
}

// Undefined where the object is another chunk's after all: tags are not escaped, so two lists of them may be one text.
function chunkOf(name: EngineName, tensor: KvTensor, text: Readonly<Record<string, string>>): LmChunk | undefined {
  const origin = parseOrigin(text);
  if (origin === undefined || textOf(origin.name) !== textOf(name)) return undefined;
  return lmcacheData(tensor, origin.metadata);
}
