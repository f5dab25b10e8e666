// The books (bounded/ledger.ts) are a guess that errs on the high side; the storage is the truth. A get asks the storage even where the
// books know nothing, and corrects them.
import { KvError } from '../../lib/errors.js';
import type { CallOptions, GetOptions, ListedValue, PutOptions, SoundnessCheck, StorageConnector, SweepResult } from '../../lib/store/connector.js';
import { checkKey, checkPrefix, checkPut, checkRange } from './arguments.js';
import { secondSight } from './bounded/admission.js';
import { ledger, type Entry } from './bounded/ledger.js';
import { checkBoundedOptions, type BoundedOptions } from './bounded/options.js';
import { rebuild } from './bounded/rebuild.js';
import { room } from './bounded/room.js';
import { keyTurns } from './key-turns.js';
import { keyWatch, type KeyMark } from './key-watch.js';
import { lifeCycle } from './life-cycle.js';

export type { BoundedOptions, QuotaOptions } from './bounded/options.js';

/** What a bounded store holds, and what it has done since it was made. */
export interface BoundedStats {
  /** Value bytes held or being put. */
  readonly bytes: number;
  readonly entries: number;
  /** Values that went to make room. */
  readonly evictions: number;
  /** Values that went because their time was over. */
  readonly expired: number;
  /** Values that the storage did not let go of; each is tried again later. */
  readonly failedEvictions: number;
  /** Puts rejected with KV_NO_SPACE. */
  readonly refused: number;
  /** Puts not stored because their key was new (`admission: 'second'`). */
  readonly notAdmitted: number;
}

/** A storage connector that keeps within a bound. */
export interface BoundedConnector extends StorageConnector {
  stats(): BoundedStats;
  /** Deletes what has expired and evicts what is over the bounds, which otherwise puts do on their way; then sweeps the inner connector. */
  sweep(options?: CallOptions): Promise<SweepResult>;
}

/**
 * Keeps at most `maxBytes` in another connector, which nobody else should put to, and closes it when it is closed. Where a put needs room,
 * the values that were not used for the longest time are deleted first, inside a group that is over its quota first of all. Room is
 * made before the put writes, so what is stored never passes the bound, not even with many puts under way.
 *
 * At the first use the values that are there already are listed; puts wait for that, gets do not. A deleted value that is being read at that
 * moment is a miss or comes whole, as with every connector's `delete`: so an eviction need not know of readers.
 *
 * A time to live is counted here, by a clock that nobody sets; the inner connector is told of it too if it supports that. One that does not
 * forgets it with the process: what it lists at the next start has `ttlMs` from when it was stored. An expired value is a miss at once, and is
 * deleted by a later put or `sweep`.
 *
 * Beside what the inner connector rejects with, a put rejects with KV_NO_SPACE if the value alone is larger than a bound, or if deletes
 * fail. A put that was cut off, or whose outcome the storage did not tell, may have taken effect: its bytes stay counted until the
 * key is read, deleted or, before all others, evicted. While a value is replaced, the storage may hold the old one beside the new.
 */
export function bounded(inner: StorageConnector, options: BoundedOptions): BoundedConnector {
  checkBoundedOptions(options);
  const { maxBytes, ttlMs = Infinity, quota, now = () => performance.now() } = options;
  const groupMaxBytes = quota?.maxBytes ?? Infinity;
  const { name } = inner;
  const supports = { range: inner.supports.range, ttl: true };
  const repair = inner.repair?.bind(inner);
  const life = lifeCycle(name);
  const closing = new AbortController();
  const books = ledger({ maxBytes, groupMaxBytes });
  const turns = keyTurns();
  const watch = keyWatch();
  const admission = options.admission === 'second' ? secondSight() : undefined;
  const { busy, ...places } = room({ ledger: books, now, remove: evict });
  const counts = { evictions: 0, expired: 0, failedEvictions: 0, refused: 0, notAdmitted: 0 };
  let isStarted = false;
  let rebuilt: Promise<void> | undefined;

  const isExpired = (entry: Entry | undefined): boolean => entry !== undefined && entry.expiresAt <= now();

  function groupOf(key: string): string {
    const group = quota === undefined ? '' : quota.groupOf(key);
    if (typeof group !== 'string') throw new TypeError(`expected \`quota.groupOf\` to give a string, got ${typeof group}`);
    return group;
  }

  async function evict(entry: Entry, signal: AbortSignal | undefined): Promise<void> {
    const wasExpired = isExpired(entry);
    try {
      await inner.delete(entry.key, signal && { signal });
    } catch (cause) {
      counts.failedEvictions++;
      books.touch(entry); // it is tried again after the others
      throw cause;
    }
    books.remove(entry.key);
    watch.changed(entry.key);
    if (wasExpired) counts.expired++;
    else counts.evictions++;
  }

  /** Lists what is there, unless that was done; a list that failed is begun again. */
  function rebuildOnce(): Promise<void> {
    isStarted = true;
    rebuilt ??= rebuild(books, inner, { groupOf, expiryOf, signal: closing.signal }).catch((cause: unknown) => {
      rebuilt = undefined;
      throw cause;
    });
    return rebuilt;
  }

  /** Begins to list, so that the first put need not wait for all of it. Gets do not need it: after a failure they leave it to puts. */
  function start(): void {
    if (!isStarted) rebuildOnce().catch(() => undefined);
  }

  // Values that the inner connector expires by itself are left to it: their own time to live is not known here.
  function expiryOf(storedAtMs: number | undefined): number {
    if (inner.supports.ttl) return Infinity;
    // Where the wall clock was set since, a value goes too early or lives once more as long.
    const ageMs = storedAtMs === undefined ? 0 : Math.max(0, Date.now() - storedAtMs);
    return now() + Math.max(0, ttlMs - ageMs);
  }

  function refuse(key: string, bytes: number): KvError {
    counts.refused++;
    const [limit, field] = bytes > maxBytes ? [maxBytes, 'maxBytes'] : [groupMaxBytes, 'quota.maxBytes'];
    return new KvError('KV_NO_SPACE', `${name} could not put "${key}": its ${bytes} bytes alone would pass ${field} = ${limit}; put smaller values or raise it`);
  }

  async function store(key: string, value: Uint8Array, options: PutOptions): Promise<void> {
    const { signal, ttlMs: ownTtlMs = ttlMs } = options;
    const bytes = value.byteLength;
    const group = groupOf(key);
    const leave = await places.enter({ key, group, bytes }, signal).catch((cause: unknown) => {
      if (codeOf(cause) === 'KV_NO_SPACE') counts.refused++;
      throw cause;
    });
    const replaced = books.find(key);
    try {
      const innerTtl = inner.supports.ttl && ownTtlMs !== Infinity ? { ttlMs: ownTtlMs } : {};
      await inner.put(key, value, { ...(signal && { signal }), ...innerTtl });
      leave();
      books.set({ key, group, bytes, expiresAt: now() + ownTtlMs });
    } catch (cause) {
      leave();
      if (signal?.aborted || OPEN_OUTCOMES.has(codeOf(cause))) {
        const [larger, earlier] = [Math.max(bytes, replaced?.bytes ?? 0), Math.min(now() + ownTtlMs, replaced?.expiresAt ?? Infinity)];
        books.doubt(books.set({ key, group, bytes: larger, expiresAt: earlier }));
      }
      throw cause;
    }
  }

  /** Does what changes a stored value without a need for room. */
  function change<T>(key: string, { signal }: CallOptions, work: () => Promise<T>): Promise<T> {
    return turns.run(key, signal, async () => {
      const leave = places.occupy(key);
      try {
        return await work();
      } finally {
        leave();
        watch.changed(key);
      }
    });
  }

  /** Corrects the books by what a get saw. */
  function note(key: string, before: Entry | undefined, mark: KeyMark, seen: Seen | undefined): void {
    // A put or delete that took place meanwhile knows better.
    if (mark.isStale || busy.has(key) || books.find(key) !== before) return;
    if (seen === undefined) return books.remove(key);
    if (before === undefined) return void books.set({ key, group: groupOf(key), bytes: seen.bytes, expiresAt: expiryOf(undefined) });
    if (seen.isWhole ? seen.bytes !== before.bytes : seen.bytes > before.bytes) books.resize(before, seen.bytes);
    books.touch(before);
  }

  return {
    name,
    supports,

    get: (key: string, options: GetOptions = {}) =>
      life.run(options, async () => {
        checkKey(key);
        checkRange(options.range);
        start();
        const entry = books.find(key);
        if (isExpired(entry)) return undefined;
        const mark = watch.begin(key);
        try {
          const value = await inner.get(key, options);
          note(key, entry, mark, value && seenBy(value, options));
          return value;
        } finally {
          watch.end(key, mark);
        }
      }),

    put: (key: string, value: Uint8Array, options: PutOptions = {}) =>
      life.run(options, async () => {
        checkKey(key);
        checkPut(value, options, supports.ttl);
        if (value.byteLength > Math.min(maxBytes, groupMaxBytes)) throw refuse(key, value.byteLength);
        await turns.run(key, options.signal, async () => {
          await unlessAborted(rebuildOnce(), options.signal);
          if (books.find(key) === undefined && admission?.admits(key) === false) counts.notAdmitted++;
          else await store(key, value, options);
        });
      }),

    has: (key, options = {}) =>
      life.run(options, async () => {
        checkKey(key);
        start();
        return !isExpired(books.find(key)) && inner.has(key, options);
      }),

    delete: (key, options = {}) =>
      life.run(options, async () => {
        checkKey(key);
        start();
        return change(key, options, async () => {
          const wasExpired = isExpired(books.find(key));
          const wasThere = await inner.delete(key, options);
          books.remove(key);
          return wasThere && !wasExpired;
        });
      }),

    async *list(prefix, options = {}): AsyncGenerator<ListedValue> {
      await life.run(options, async () => checkPrefix(prefix));
      for await (const value of inner.list(prefix, options)) {
        if (!isExpired(books.find(value.key))) yield value;
      }
    },

    async close() {
      await life.close();
      closing.abort(new KvError('KV_CLOSED', `the ${name} connector was closed`));
      await rebuilt?.catch(() => undefined);
      await inner.close();
    },

    ...(repair && {
      repair: (key: string, isSound: SoundnessCheck, options: CallOptions = {}) =>
        life.run(options, async () => {
          checkKey(key);
          return change(key, options, () => repair(key, isSound, options)); // a later get tells the books what came of it
        }),
    }),

    sweep: (options = {}) =>
      life.run(options, async () => {
        await unlessAborted(rebuildOnce(), options.signal);
        const own = await places.sweep(options.signal);
        const inside = await inner.sweep?.(options);
        return { removed: own.removed + (inside?.removed ?? 0), bytes: own.bytes + (inside?.bytes ?? 0) };
      }),

    stats: () => ({ bytes: books.bytes, entries: books.entries, ...counts }),
  };
}

// Failures that do not tell whether the far end has the value.
const OPEN_OUTCOMES: ReadonlySet<unknown> = new Set(['KV_CONNECTOR_TIMEOUT', 'KV_CONNECTOR_UNAVAILABLE']);

/** By its code, not its class: a connector from elsewhere has a KvError of its own. */
function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

/** How far a value is known to reach. */
interface Seen {
  readonly bytes: number;
  /** Whether it ends there. */
  readonly isWhole: boolean;
}

function seenBy(value: Uint8Array, { range }: GetOptions): Seen {
  if (range === undefined) return { bytes: value.byteLength, isWhole: true };
  const isWhole = value.byteLength < range.length && (value.byteLength > 0 || range.offset === 0);
  return { bytes: value.byteLength === 0 ? 0 : range.offset + value.byteLength, isWhole };
}

/** The outcome of `work`, or the signal's reason if that comes first. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise<T>((resolve, reject) => {
    const giveUp = (): void => reject(signal.reason);
    signal.addEventListener('abort', giveUp, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', giveUp));
  });
}
