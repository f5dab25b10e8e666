// What is put and got under chaos: bytes through a storage connector, or tensors through a KvStore on it.
import { KvStore } from '../../lib/index.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import type { KvLayout, KvTensor } from '../../lib/types.js';
import { dataOf, valueOf } from './chaos-values.js';

/** One call: its own random numbers and its end. */
export interface ChaosCall {
  readonly key: number;
  /** The newest version of the key that anybody began to put until now; the first was 1. */
  newest(): number;
  readonly random: () => number;
  readonly signal: AbortSignal;
}

/** Two verbs over versions of numbered keys, and some more that must settle. */
export interface Subject {
  /** Puts the newest version. */
  put(call: ChaosCall): Promise<void>;
  /** Whether there was a value. Throws WrongBytes if it was never put. */
  get(call: ChaosCall): Promise<boolean>;
  /** A verb whose answer nobody compares. */
  other(call: ChaosCall): Promise<unknown>;
  close(): Promise<void>;
}

/** A value came back that was never put under its key. */
export class WrongBytes extends Error {}

/** Bytes, whole and by range, into memory of the caller and not. For all faults that a connector notices by itself. */
export function bytesSubject(connector: StorageConnector): Subject {
  const nameOf = (key: number): string => `chaos/${key}`;
  return {
    put: ({ key, newest, signal }) => connector.put(nameOf(key), valueOf(key, newest()), { signal }),
    async get({ key, newest, random, signal }) {
      const range = random() < 0.4 ? { offset: Math.floor(10_000 * random()), length: Math.floor(10_000 * random()) } : undefined;
      const into = random() < 0.1 ? new Uint8Array(1 << 20) : undefined;
      const bytes = await connector.get(nameOf(key), { signal, ...(range && { range }), ...(into && { into }) });
      if (bytes === undefined) return false;
      const wanted = (value: Uint8Array): Uint8Array => (range ? value.subarray(range.offset, range.offset + range.length) : value);
      if (!isVersion(newest(), (version) => sameBytes(bytes, wanted(valueOf(key, version))))) throw new WrongBytes(`key ${key} gave ${bytes.byteLength} bytes of no version (range ${JSON.stringify(range)})`);
      return true;
    },
    async other({ key, random, signal }) {
      const choice = random();
      if (choice < 0.5) return connector.has(nameOf(key), { signal });
      if (choice < 0.9) return connector.delete(nameOf(key), { signal });
      for await (const { key: listed } of connector.list('chaos/', { signal })) if (!listed.startsWith('chaos/')) throw new WrongBytes(`list gave ${listed}`);
      return undefined;
    },
    close: () => connector.close(),
  };
}

const GEOMETRY = { order: 'mla', dtype: 'bf16', layers: 2, kvHeads: 1, headDim: 16 } as const;
const ROW_BYTES = 32;

type Span = readonly [begin: number, end: number];

/** The tensor of one version: 1 to 64 tokens, and one in twenty up to 2,048. */
function tensorOf(key: number, version: number): KvTensor {
  const kind = (key * 31 + version * 17) % 20;
  const tokens = kind === 0 ? 64 + ((key * 131 + version * 977) % 1985) : 1 + ((key * 13 + version * 7) % 64);
  const layout: KvLayout = { ...GEOMETRY, tokens };
  return { layout, data: dataOf(key, version, GEOMETRY.layers * tokens * ROW_BYTES) };
}

/** Tensors as objects of coders raw and exact, whole and in part. For all faults: here checksums are on watch. */
export function objectsSubject(connector: StorageConnector): Subject {
  const common = { connector, namespace: { model: 'chaos', geometry: GEOMETRY }, groupTokens: 16, threads: 1, concurrency: 64 };
  const stores = [new KvStore({ ...common, coder: 'raw' }), new KvStore({ ...common, coder: 'exact' })] as const;
  const hashOf = (key: number): string => (0xc4a05 + key).toString(16).padStart(16, '0');
  const storeFor = (random: () => number): KvStore => stores[random() < 0.5 ? 0 : 1];
  return {
    put: ({ key, newest, random, signal }) => storeFor(random).put(hashOf(key), tensorOf(key, newest()), { signal }),
    async get({ key, newest, random, signal }) {
      const layers: Span = random() < 0.5 ? [0, 2] : [1, 2];
      const tokens: Span = [0, 1 + Math.floor(40 * random())];
      const part = random() < 0.3 ? { layers, tokens } : undefined;
      const tensor = await storeFor(random).fetch(hashOf(key), { signal, ...part });
      if (tensor === undefined) return false;
      if (!isVersion(newest(), (version) => isPartOf(tensorOf(key, version), tensor, part?.layers ?? [0, 2]))) throw new WrongBytes(`key ${key} gave a tensor of no version (part ${JSON.stringify(part)})`);
      return true;
    },
    other: ({ key, random, signal }) => storeFor(random).lookup([hashOf(key)], { signal }),
    async close() {
      await Promise.all(stores.map((store) => store.close()));
      await connector.close();
    },
  };
}

/** Whether `part` holds the first tokens of these layers of `whole`: all of them where it says so. */
function isPartOf(whole: KvTensor, part: KvTensor, [begin, end]: Span): boolean {
  const { tokens } = part.layout;
  const isWhole = begin === 0 && tokens === whole.layout.tokens;
  if (tokens > whole.layout.tokens || part.layout.layers !== end - begin || part.data.byteLength !== (end - begin) * tokens * ROW_BYTES) return false;
  if (isWhole) return sameBytes(part.data, whole.data.subarray(0, part.data.byteLength));
  return Array.from({ length: end - begin }, (_, i) => i).every((i) => {
    const from = (begin + i) * whole.layout.tokens * ROW_BYTES;
    return sameBytes(part.data.subarray(i * tokens * ROW_BYTES, (i + 1) * tokens * ROW_BYTES), whole.data.subarray(from, from + tokens * ROW_BYTES));
  });
}

/** Newest first, because that is what mostly comes. */
function isVersion(newest: number, isIt: (version: number) => boolean): boolean {
  for (let version = newest; version > 0; version--) if (isIt(version)) return true;
  return false;
}

function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}
