// Our exact objects written as LMCache would have written them.
import { decode, inspect } from '../../../lib/codec/codec.js';
import type { ObjectHeader } from '../../../lib/container/header.js';
import { KvError } from '../../../lib/errors.js';
import { kvRank } from '../../../lib/key/object-key.js';
import { bufferPool } from '../../../lib/store/buffer-pool.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import { listStored, type StoredEntry } from '../../../lib/store/listing.js';
import { namespaceDigest, type KvGeometry } from '../../../lib/store/namespace.js';
import { openByRange } from '../../../lib/store/stored-object.js';
import type { KvLayout } from '../../../lib/types.js';
import { lmcacheData, lmcacheDtype, tokensOf } from './chunk-tensor.js';
import { namespaceOf, parseOrigin, type Origin } from './identity.js';
import { inTurns } from './in-turns.js';
import { isName, type LmcacheName } from './key-text.js';
import type { OpenedPlace } from './open-place.js';
import { writeObject } from './stored-objects.js';

/** How to export. */
export interface ExportOptions {
  /** Model of the objects that did not come from LMCache; without it only those that did are written. */
  readonly model?: string;
  /** Workers of the engine, taken to be on one machine, and which of them the chunks are of. */
  readonly worldSize: number;
  readonly rank: number;
  /** Tenant's salt of the objects to write. Default: those without one. */
  readonly salt: string;
  /** Order of the rows of what did not come from LMCache. */
  readonly order: 'lmcache_2ltd' | 'fused';
  /** Tokens of LMCache's full chunks, which are all that some forms have. */
  readonly chunkTokens: number;
  readonly threads: number;
  readonly signal: AbortSignal;
  readonly onProgress: (objects: number) => void;
  /** Told of each chunk that is left out though it may be meant, and why. */
  readonly onSkipped: (key: string, reason: string) => void;
}

/** What was exported. */
export interface ExportSummary {
  readonly objects: number;
  /** Of data. */
  readonly bytes: number;
  readonly skipped: number;
  /** Chunks of other models, tenants, ranks and qualities. */
  readonly others: number;
}

const CONCURRENCY = 4;
const USELESS: ReadonlySet<unknown> = new Set(['KV_CORRUPT_OBJECT', 'KV_GEOMETRY_MISMATCH', 'KV_UNSUPPORTED', 'KV_UNSUPPORTED_VERSION']);

/** Writes the exact chunks of a store into a place. Rejects as store and place do, or with the signal's reason; what was written stays. */
export async function exportObjects(connector: StorageConnector, to: OpenedPlace, options: ExportOptions): Promise<ExportSummary> {
  const { signal, threads, onProgress, onSkipped } = options;
  const count = { objects: 0, bytes: 0, skipped: 0, others: 0 };

  const pool = bufferPool(0);

  const glance = async (entry: StoredEntry): Promise<Meant | undefined> => {
    const place = { connector, key: entry.key, signal };
    const header = connector.supports.range ? (await openByRange(place, pool))?.header : inspectIfThere(await connector.get(entry.key, { signal }));
    return header && meantBy(header, entry, options);
  };

  const exportOne = async (entry: StoredEntry): Promise<void> => {
    // The header first: most chunks of a store may be none that is meant.
    if ((await glance(entry)) === undefined) return void count.others++;
    const object = await connector.get(entry.key, { signal });
    const meant = object && meantBy(inspect(object), entry, options);
    if (object === undefined || meant === undefined) return void count.others++; // deleted or replaced meanwhile
    const { name, origin } = meant;
    if (name.kind !== to.form.kind) throw new KvError('KV_UNSUPPORTED', `it has a key of LMCache ${name.kind === 'engine' ? 'in the engine process' : 'multiprocess'}, which ${to.form.name} does not store`);
    const tensor = await decode(object, { key: entry.key, threads, signal });
    const { metadata, data } = lmcacheData(tensor, origin?.metadata, options.order);
    const tokens = tokensOf(metadata);
    if (to.form.isFullOnly && tokens !== undefined && tokens !== options.chunkTokens) {
      throw new KvError('KV_UNSUPPORTED', `it has ${tokens} tokens; from ${to.form.name} LMCache reads full chunks of ${options.chunkTokens} only`);
    }
    await writeObject(to, name, { metadata, data }, { signal });
    count.bytes += data.length;
    onProgress(++count.objects);
  };

  await inTurns(listStored(connector, 'chunks', { signal }), CONCURRENCY, async (entry) => {
    signal.throwIfAborted();
    try {
      await exportOne(entry);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && USELESS.has(error.code))) throw error;
      count.skipped++;
      onSkipped(entry.key, error.message);
    }
  });
  return count;
}

/** A chunk that is to be written. */
interface Meant {
  readonly name: LmcacheName;
  readonly origin: Origin | undefined;
}

function meantBy(header: ObjectHeader, entry: StoredEntry, options: ExportOptions): Meant | undefined {
  if (header.rung !== 'exact') return undefined;
  const origin = parseOrigin(header.metadata ?? {});
  const name = nameOf(entry, header.layout, origin?.name, options);
  return name && { name, origin };
}

function inspectIfThere(object: Uint8Array | undefined): ObjectHeader | undefined {
  return object && inspect(object);
}

// What LMCache names a chunk by: as it did, or as it would by what was said. Undefined unless the chunk's namespace is the name's.
function nameOf({ namespace, hash }: StoredEntry, { tokens: _, ...geometry }: KvLayout, origin: LmcacheName | undefined, options: ExportOptions): LmcacheName | undefined {
  const candidates = origin ? [salted(origin, options.salt)] : options.model === undefined ? [] : namesBy(hash, geometry, options.model, options);
  return candidates.find((name) => name.parts.hash === hash && isName(name) && isIn(namespace, name, geometry));
}

function isIn(digest: string, name: LmcacheName, geometry: KvGeometry): boolean {
  const namespace = namespaceOf(name, geometry);
  return namespace !== undefined && namespaceDigest(namespace) === digest;
}

function salted(name: LmcacheName, salt: string): LmcacheName {
  return name.kind === 'object' ? { ...name, parts: { ...name.parts, cacheSalt: salt } } : name;
}

const OBJECT_HASH = /^([0-9a-f]{2}){16,}$/;
const ENGINE_HASH = /^(0|-?[1-9a-f][0-9a-f]{0,15})$/;

// LMCache's two kinds of hashes differ in length.
function namesBy(hash: string, { dtype }: KvGeometry, model: string, { worldSize, rank, salt }: ExportOptions): LmcacheName[] {
  if (OBJECT_HASH.test(hash)) {
    const place = { worldSize, globalRank: rank, localWorldSize: worldSize, localRank: rank };
    return [{ kind: 'object', parts: { model, hash, kvRank: kvRank(place), cacheSalt: salt } }];
  }
  return ENGINE_HASH.test(hash) ? [{ kind: 'engine', parts: { model, worldSize, workerId: rank, hash, dtype: lmcacheDtype(dtype) } }] : [];
}
