// Which layouts the chunks of a model have. A get says its key only, and the layout is part of ours: it is learned from puts, and kept in the
// store beside the chunks so that another server finds them too. What is lost is learned again by the next put.
import { Buffer } from 'node:buffer';
import { checkLayout } from '../../../lib/codec/layout.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import { layoutOf, type KvGeometry, type Namespace } from '../../../lib/store/namespace.js';
import { KvStore } from '../../../lib/store/store.js';
import type { KvTensor } from '../../../lib/types.js';
import type { EngineName } from './protocol.js';

/** Layouts by model, dtype and number of workers. */
export interface Layouts {
  /** Those of a chunk with this name, the likeliest first. Asks the store where nothing is known, and again after a while. */
  of(name: EngineName, signal: AbortSignal): Promise<readonly KvGeometry[]>;
  /** Makes sure that the layout is found by `of`, here and elsewhere; the one not put for longest makes room. Rejects as the store does. */
  learn(name: EngineName, geometry: KvGeometry, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** Layouts of one model at most: full chunks of one engine have one, single layers another. */
const MOST_LAYOUTS = 8;
const MOST_MODELS = 1024;
// Another server may have learned one: of a model not seen before this is likely, later it is not.
const ASK_AGAIN_MS = { unknown: 10_000, known: 600_000 } as const;
const ROW_BYTES = 256;
const MOST_ROWS = 64;
// A namespace of its own, with one object.
const HASH = '0';
const ROW: KvGeometry = { order: 'bytes', dtype: 'u8', layers: 1, kvHeads: 1, headDim: ROW_BYTES };

interface Known {
  readonly store: KvStore;
  /** JSON of each layout, in the order of their last put. */
  layouts: readonly string[];
  askedAtMs: number;
  /** Reads and writes of the record, one after the other. */
  turn: Promise<unknown>;
}

/** Makes the layouts of the chunks of a connector. `now` is a clock in milliseconds. */
export function makeLayouts(connector: StorageConnector, now: () => number = () => performance.now()): Layouts {
  const known = new Map<string, Known>();

  const entryOf = (name: EngineName): Known => {
    const namespace = namespaceOf(name);
    const id = JSON.stringify([namespace.model, namespace.variant]);
    const found = known.get(id);
    if (found !== undefined) return found;
    const [oldest] = known.keys();
    if (known.size >= MOST_MODELS && oldest !== undefined) {
      void known.get(oldest)?.store.close();
      known.delete(oldest);
    }
    const entry: Known = { store: new KvStore({ connector, namespace, concurrency: 1 }), layouts: [], askedAtMs: -Infinity, turn: Promise.resolve() };
    known.set(id, entry);
    return entry;
  };

  const isStale = ({ askedAtMs, layouts }: Known): boolean => now() - askedAtMs >= ASK_AGAIN_MS[layouts.length === 0 ? 'unknown' : 'known'];

  const inTurn = <T>(entry: Known, work: () => Promise<T>): Promise<T> => {
    const result = entry.turn.then(work, work);
    entry.turn = result.catch(() => undefined);
    return result;
  };

  const read = async (entry: Known, signal: AbortSignal): Promise<readonly string[]> => {
    const record = await entry.store.fetch(HASH, { signal });
    const stored = record ? parseRecord(record.data) : [];
    // What was put here is likelier than what others put.
    entry.layouts = newest([...stored, ...entry.layouts]);
    entry.askedAtMs = now();
    return stored;
  };

  return {
    async of(name, signal) {
      const entry = entryOf(name);
      if (isStale(entry)) {
        await inTurn(entry, async () => {
          if (isStale(entry)) await read(entry, signal);
        });
      }
      return [...entry.layouts].reverse().map((layout) => JSON.parse(layout) as KvGeometry);
    },

    async learn(name, geometry, signal) {
      const entry = entryOf(name);
      const layout = JSON.stringify(geometry);
      if (!entry.layouts.includes(layout)) {
        await inTurn(entry, async () => {
          const stored = await read(entry, signal);
          if (!stored.includes(layout)) await entry.store.put(HASH, packRecord(newest([...entry.layouts, layout])), { signal });
        });
      }
      entry.layouts = newest([...entry.layouts, layout]);
    },

    close: async () => void (await Promise.all([...known.values()].map(({ store }) => store.close()))),
  };
}

/** The last ones, each once. */
function newest(layouts: readonly string[]): string[] {
  return [...new Set([...layouts].reverse())].slice(0, MOST_LAYOUTS).reverse();
}

// By all of a key that says what shape a tensor may have.
function namespaceOf({ parts: { model, worldSize, dtype } }: EngineName): Namespace {
  return { model, geometry: ROW, variant: `lmcache layouts of ${worldSize} ${dtype}` };
}

function packRecord(layouts: readonly string[]): KvTensor {
  const text = Buffer.from(`[${layouts.join()}]`);
  const tokens = Math.ceil(text.length / ROW_BYTES);
  const data = new Uint8Array(tokens * ROW_BYTES).fill(0x20);
  data.set(text);
  return { layout: layoutOf(ROW, tokens), data };
}

// What is no layout is left out: the store may be anybody's.
function parseRecord(data: Uint8Array): string[] {
  if (data.length > ROW_BYTES * MOST_ROWS) return [];
  const layouts = parsed(Buffer.from(data).toString());
  return Array.isArray(layouts) ? layouts.filter(isGeometry).map((geometry) => JSON.stringify(geometry)) : [];
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isGeometry(value: unknown): value is KvGeometry {
  if (typeof value !== 'object' || value === null || 'tokens' in value) return false;
  try {
    const geometry = value as KvGeometry;
    checkLayout(layoutOf(geometry, geometry.blockTokens ?? 1));
    return true;
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) return false;
    throw error;
  }
}
