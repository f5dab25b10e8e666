// Chunks in and out of the store: what every end of the daemon (HTTP, lm://) does with one chunk, told to the observers and the presence table.
import { checkLayout } from '../../../lib/codec/layout.js';
import type { StorageConnector } from '../../../lib/store/connector.js';
import { chunkKey, hasGeometry, layoutOf } from '../../../lib/store/namespace.js';
import type { Span } from '../../../lib/store/part.js';
import { openByRange } from '../../../lib/store/stored-object.js';
import { distrustOf } from '../../../lib/store/stored-value.js';
import { bufferPool } from '../../../lib/store/buffer-pool.js';
import type { KvLayout } from '../../../lib/types.js';
import type { DaemonEvents, MissCause } from './events.js';
import type { Meter } from './meter.js';
import type { PresenceTable } from './presence.js';
import type { Space, Spaces } from './spaces.js';
import { invalid, describeFailure } from './wire-error.js';

/** A chunk, or some of its layers. */
export interface ChunkPart {
  readonly hash: string;
  /** Half open. Default: all. */
  readonly layers?: Span;
}

export type FetchOutcome = { readonly isHit: true; readonly storedBytes: number } | { readonly isHit: false; readonly cause: MissCause };

export interface StoreOutcome {
  /** 0 where it was there already. */
  readonly storedBytes: number;
  readonly wasPresent: boolean;
}

/** A chunk's tensor to store. */
export interface ChunkTensor {
  readonly hash: string;
  readonly data: Uint8Array;
  /** Absolute position of its first token. */
  readonly start: number;
}

export interface Chunks {
  /**
   * Fetches into `into`, which has to be exactly as long as the chunk (or its layers) is: another length is a miss. Nothing writes there after
   * this has settled. Rejects as `KvStore.fetch` does.
   */
  fetch(space: Space, part: ChunkPart, into: Uint8Array, signal: AbortSignal): Promise<FetchOutcome>;
  /** Stores one chunk unless it is there. `data` must not change before this has settled. Rejects as `KvStore.put` does, with KV_INVALID_INPUT for a length that no chunk has. */
  store(space: Space, tensor: ChunkTensor, signal: AbortSignal): Promise<StoreOutcome>;
  /** Whether there was something to delete. */
  delete(space: Space, hash: string, signal: AbortSignal): Promise<boolean>;
}

export interface ChunksOptions {
  readonly connector: StorageConnector;
  /** The same without memory in front of it: what is only in memory is not stored. */
  readonly stored: StorageConnector;
  readonly spaces: Spaces;
  readonly presence: PresenceTable;
  readonly meter: Meter;
  readonly events: DaemonEvents;
  /** Takes away and tells what was noted of a key that was read: its object was damaged. */
  readonly wasDamaged: (key: string) => boolean;
}

/** One fetch. */
interface Wanted {
  readonly space: Space;
  readonly part: ChunkPart;
  readonly into: Uint8Array;
  readonly signal: AbortSignal;
}

/** Buffers kept for headers. */
const POOLED = 8;

export function makeChunks({ connector, stored, spaces, presence, meter, events, wasDamaged }: ChunksOptions): Chunks {
  const pool = bufferPool(POOLED);

  async function read({ space, part: { hash, layers }, into, signal }: Wanted): Promise<'hit' | 'other_length' | 'absent'> {
    const all = space.namespace.geometry.layers;
    const [begin, end] = layers ?? [0, all];
    if (layoutOfBytes(space, (into.byteLength * all) / (end - begin)) === undefined) return 'other_length';
    try {
      const found = await spaces.storeOf(space).fetch(hash, { into, signal, ...(layers && { layers, storedOrder: true }) });
      return found === undefined ? 'absent' : 'hit';
    } catch (error) {
      // The one RangeError left: the chunk is not as long as was asked for.
      if (error instanceof RangeError) return 'other_length';
      throw error;
    }
  }

  async function isStored({ digest, namespace }: Space, hash: string, layout: KvLayout, signal: AbortSignal): Promise<boolean> {
    const key = chunkKey(digest, hash);
    if (!stored.supports.range) return stored.has(key, { signal });
    try {
      const object = await openByRange({ connector: stored, key, signal }, pool);
      return object !== undefined && object.header.key === key && object.chunk.layout.tokens === layout.tokens && hasGeometry(object.chunk.layout, namespace.geometry);
    } catch (error) {
      if (distrustOf(error) === undefined) throw error;
      return false; // it is no use to anybody: replaced
    }
  }

  return {
    async fetch(space, part, into, signal) {
      const begin = performance.now();
      const key = chunkKey(space.digest, part.hash);
      const meterOf = meter.watch(key);
      try {
        const outcome = await read({ space, part, into, signal });
        const ms = performance.now() - begin;
        const storedBytes = meterOf.stop();
        const isDamaged = wasDamaged(key);
        if (outcome === 'hit') {
          presence.note(space.digest, part.hash, true);
          events.hit({ space: space.digest, rawBytes: into.byteLength, storedBytes, ms });
          return { isHit: true, storedBytes };
        }
        const cause = outcome === 'absent' && isDamaged ? 'damaged' : outcome;
        if (outcome === 'absent') presence.note(space.digest, part.hash, false);
        events.miss({ space: space.digest, cause, ms });
        return { isHit: false, cause };
      } catch (error) {
        events.failed({ space: space.digest, verb: 'fetch', ...describeFailure(error), ms: performance.now() - begin });
        throw error;
      } finally {
        meterOf.stop();
      }
    },

    async store(space, { hash, data, start }, signal) {
      const begin = performance.now();
      const key = chunkKey(space.digest, hash);
      const meterOf = meter.watch(key);
      try {
        const layout = layoutOfBytes(space, data.byteLength);
        if (layout === undefined) throw invalid(`no chunk of the space has ${data.byteLength} bytes: a token of it has ${space.tokenBytes}, and paged orders come in whole blocks`);
        const wasPresent = await isStored(space, hash, layout, signal);
        if (!wasPresent) await spaces.storeOf(space).put(hash, { layout, data, start }, { signal });
        presence.note(space.digest, hash, true);
        const outcome = { wasPresent, storedBytes: wasPresent ? 0 : meterOf.stop() };
        events.stored({ space: space.digest, rawBytes: data.byteLength, ...outcome, ms: performance.now() - begin });
        return outcome;
      } catch (error) {
        events.failed({ space: space.digest, verb: 'store', ...describeFailure(error), ms: performance.now() - begin });
        throw error;
      } finally {
        meterOf.stop();
      }
    },

    async delete({ digest }, hash, signal) {
      const wasThere = await connector.delete(chunkKey(digest, hash), { signal });
      presence.note(digest, hash, false);
      return wasThere;
    },
  };
}

/** The layout of so many bytes in the space's own order; undefined where none has so many. */
function layoutOfBytes({ namespace, tokenBytes }: Space, bytes: number): KvLayout | undefined {
  const layout = layoutOf(namespace.geometry, bytes / tokenBytes);
  try {
    checkLayout(layout);
  } catch {
    return undefined;
  }
  return layout;
}
