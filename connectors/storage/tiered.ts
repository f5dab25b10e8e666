import { KvError } from '../../lib/errors.js';
import { bufferPool } from '../../lib/store/buffer-pool.js';
import type { CallOptions, GetOptions, ListedValue, PutOptions, Repair, SoundnessCheck, StorageConnector, SweepResult } from '../../lib/store/connector.js';
import { checkKey, checkPrefix, checkPut, checkRange } from './arguments.js';
import { keyTurns } from './key-turns.js';
import { keyWatch, type KeyMark } from './key-watch.js';
import { lifeCycle } from './life-cycle.js';
import { checkTieredOptions, TIERED_DEFAULTS, type TieredOptions } from './tiered/options.js';
import { isCorrupt } from './tiered/corrupt.js';
import { promotions } from './tiered/promotions.js';
import { repairCopies } from './tiered/repair.js';
import { tier, type Attempt, type Tier } from './tiered/tier.js';
import { timesToLive } from './tiered/times-to-live.js';

export type { TieredOptions } from './tiered/options.js';

/** A stack of storage connectors that looks like one. */
export interface TieredConnector extends StorageConnector {
  /** From the fastest to the slowest, to look at one alone. Change values through the stack, or readers may get an older one. */
  readonly tiers: readonly StorageConnector[];
  /**
   * Reads each tier's copy and replaces those that are not sound by the slowest tier's sound one, or deletes them if there is none. A tier that
   * cannot be read is left alone. Default check: what a tier gives without an error is sound.
   */
  repair(key: string, isSound?: SoundnessCheck, options?: CallOptions): Promise<Repair>;
}

/** Buffers kept for reads of upper tiers into a caller's memory. */
const STAGING_BUFFERS = 8;

/**
 * Stacks connectors from the fastest to the slowest, say memory, disk and remote, and closes them when it is closed. Rejects as they do.
 *
 * `get` asks tier by tier. A value found lower down is copied up in the background; of a range get only if the answer is known to be the
 * whole value (it starts at 0 and ends before the range does), since anything else would mean to read the value once more. A tier
 * that fails or takes longer than `timeoutMs` is passed over and told to `onFailure`: where the others do not have the key, that is a miss.
 * Only when every tier fails, the call rejects, with the first failure. A copy that a tier reports as damaged (KV_CORRUPT_OBJECT) is replaced
 * by the one that was found below it, or deleted where only a part of that was read.
 *
 * `put` goes to all tiers at once, resolves when all have it or have failed, and rejects only if none took it. A tier that failed may have an
 * older value: that is deleted, and until this has worked the tier is not asked for this key. (This process remembers it, of the last 65,536
 * such keys.) Of a put that the caller aborts, what the last tier has counts, old or new, and the others forget the key.
 *
 * `delete` rejects if any tier failed; the key is a miss nevertheless. `list` gives what the tiers that answer have and then rejects if one
 * failed, so a list that ends well is whole. What other processes change is seen as soon as the upper tiers no longer have the old value.
 */
export function tiered(connectors: readonly StorageConnector[], options: TieredOptions = {}): TieredConnector {
  checkTieredOptions(connectors, options);
  const { timeoutMs = TIERED_DEFAULTS.timeoutMs, promotionBytes = TIERED_DEFAULTS.promotionBytes, onFailure, now = () => performance.now() } = options;
  const name = 'tiered';
  const supports = {
    range: connectors.every(({ supports }) => supports.range),
    ttl: connectors.every(({ supports }) => supports.ttl),
  };
  const life = lifeCycle(name);
  const pool = bufferPool(STAGING_BUFFERS);
  const tiers = connectors.map((connector, i) => tier(connector, { timeoutMs, isLast: i === connectors.length - 1, pool, onFailure }));
  const turns = keyTurns();
  const watch = keyWatch();
  const times = timesToLive(now);
  const upward = promotions({ maxBytes: promotionBytes, turns, remainingMs: times.remainingMs });

  /** Asks the tiers from the top down until one has the key. Rejects with the first failure if none answers. */
  async function ask<T>(key: string, attempt: (tier: Tier) => Promise<Attempt<T | undefined>>): Promise<Found<T> | undefined> {
    const lacking: Tier[] = [];
    const damaged: Tier[] = [];
    const failures: unknown[] = [];
    let answers = 0;
    for (const tier of tiers) {
      if (tier.isDoubtful(key)) {
        lacking.push(tier);
        continue;
      }
      const answer = await attempt(tier);
      if (!answer.isDone) {
        failures.push(answer.failure);
        if (isCorrupt(answer.failure)) damaged.push(tier);
      } else if (answer.result === undefined) {
        lacking.push(tier);
        answers++;
      } else {
        return { result: answer.result, lacking, damaged };
      }
    }
    if (failures.length > 0 && answers === 0) throw failures[0];
    return undefined;
  }

  /** Mends the tiers above a hit in the background; undefined if there is nothing to do. */
  function mend({ result: value, lacking, damaged }: Found<Uint8Array>, key: string, options: GetOptions, mark: KeyMark): Promise<void> | undefined {
    for (const tier of damaged) tier.doubt(key); // not read again before it is mended
    if (lacking.length + damaged.length > 0 && isWhole(value, options)) return upward.start({ key, value, tiers: [...lacking, ...damaged], mark });
    return damaged.length > 0 ? upward.discard(key, damaged) : undefined;
  }

  /** Puts to all tiers, and sees to it that none of them gives an older value than another. */
  async function store(key: string, value: Uint8Array, options: PutOptions): Promise<void> {
    const outcomes = await Promise.allSettled(tiers.map((tier) => tier.attempt(options.signal, (call) => tier.connector.put(key, value, { ...options, ...call }))));
    watch.changed(key);
    const took = tiers.filter((_, i) => isDone(outcomes[i]));
    const isGivenUp = outcomes.some(({ status }) => status === 'rejected');
    if (took.length === 0 && !isGivenUp) throw failureOf(outcomes);
    // After a put that was given up the last tier is right, old or new: the others are sure to lose the value some day.
    const isUndone = isGivenUp && !isDone(outcomes.at(-1));
    const doubtful = tiers.filter((tier, i) => (isUndone ? i < tiers.length - 1 : !took.includes(tier)));
    for (const tier of doubtful) tier.doubt(key);
    if (!isUndone) {
      for (const tier of took) tier.trust(key);
      times.note(key, options.ttlMs);
    }
    await Promise.all(doubtful.map((tier) => tier.discard(key)));
    if (isGivenUp) throw failureOf(outcomes);
  }

  async function remove(key: string, options: CallOptions): Promise<boolean> {
    const wasOver = times.remainingMs(key) <= 0;
    const outcomes = await Promise.allSettled(tiers.map((tier) => tier.attempt(options.signal, (call) => tier.connector.delete(key, call))));
    watch.changed(key);
    times.note(key, undefined);
    tiers.forEach((tier, i) => (isDone(outcomes[i]) ? tier.trust(key) : tier.doubt(key)));
    if (!outcomes.every(isDone)) throw failureOf(outcomes);
    return !wasOver && outcomes.some((outcome) => isDone(outcome) && outcome.value.result);
  }

  return {
    name,
    supports,
    tiers: connectors,

    get: (key: string, options: GetOptions = {}) =>
      life.run(options, async () => {
        checkKey(key);
        if (options.range !== undefined && !supports.range) throw new TypeError('expected no `range`: not every tier can read a part of a value');
        checkRange(options.range);
        if (times.remainingMs(key) <= 0) return undefined;
        const mark = watch.begin(key);
        let mending: Promise<void> | undefined;
        try {
          const found = await ask(key, (tier) => tier.read(key, options));
          mending = found && mend(found, key, options, mark);
          return found?.result;
        } finally {
          if (mending === undefined) watch.end(key, mark);
          else void mending.finally(() => watch.end(key, mark));
        }
      }),

    put: (key: string, value: Uint8Array, options: PutOptions = {}) =>
      life.run(options, async () => {
        checkKey(key);
        checkPut(value, options, supports.ttl);
        await turns.run(key, options.signal, () => store(key, value, options));
      }),

    has: (key, options = {}) =>
      life.run(options, async () => {
        checkKey(key);
        if (times.remainingMs(key) <= 0) return false;
        const isThere = await ask(key, (tier) => tier.attempt(options.signal, async (call) => (await tier.connector.has(key, call)) || undefined));
        return isThere !== undefined;
      }),

    delete: (key, options = {}) =>
      life.run(options, async () => {
        checkKey(key);
        return turns.run(key, options.signal, () => remove(key, options));
      }),

    async *list(prefix, options = {}): AsyncGenerator<ListedValue> {
      await life.run(options, async () => checkPrefix(prefix));
      const seen = new Set<string>();
      const failures: unknown[] = [];
      for (const tier of tiers) {
        try {
          for await (const value of tier.connector.list(prefix, options)) {
            if (seen.has(value.key) || tier.isDoubtful(value.key) || times.remainingMs(value.key) <= 0) continue;
            if (tier !== tiers.at(-1)) seen.add(value.key);
            yield value;
          }
        } catch (failure) {
          options.signal?.throwIfAborted();
          tier.report(failure);
          failures.push(failure);
        }
      }
      if (failures.length > 0) throw failures[0];
    },

    ...(connectors.some(({ sweep }) => sweep) && { sweep: (options: CallOptions = {}) => life.run(options, () => sweepAll(connectors, options)) }),

    repair: (key, isSound = () => true, options = {}) =>
      life.run(options, async () => {
        checkKey(key);
        return turns.run(key, options.signal, () => {
          const ttlMs = times.remainingMs(key);
          const puts = ttlMs === Infinity ? options : { ...options, ttlMs: Math.max(1, ttlMs) };
          return repairCopies(tiers, key, isSound, puts).finally(() => watch.changed(key));
        });
      }),

    async close() {
      await life.close();
      await upward.close(new KvError('KV_CLOSED', `the ${name} connector was closed`));
      pool.clear();
      await Promise.all(connectors.map((connector) => connector.close()));
    },
  };
}

/** What a tier has, and the tiers above it that should have it. */
interface Found<T> {
  readonly result: T;
  readonly lacking: readonly Tier[];
  readonly damaged: readonly Tier[];
}

/** Whether what was read is known to be all of it. */
function isWhole(value: Uint8Array, { range }: GetOptions): boolean {
  return range === undefined || (range.offset === 0 && value.byteLength < range.length);
}

type Outcome<T> = PromiseSettledResult<Attempt<T>> | undefined;

function isDone<T>(outcome: Outcome<T>): outcome is PromiseFulfilledResult<Extract<Attempt<T>, { isDone: true }>> {
  return outcome?.status === 'fulfilled' && outcome.value.isDone;
}

/** What to reject with: what the caller caused, or else what failed first from the top. */
function failureOf(outcomes: readonly Outcome<unknown>[]): unknown {
  for (const outcome of outcomes) if (outcome?.status === 'rejected') return outcome.reason;
  for (const outcome of outcomes) if (outcome?.status === 'fulfilled' && !outcome.value.isDone) return outcome.value.failure;
  return undefined;
}

/** Sweeps every tier, then rejects with the first failure. */
async function sweepAll(connectors: readonly StorageConnector[], options: CallOptions): Promise<SweepResult> {
  const outcomes = await Promise.allSettled(connectors.map(async (connector) => connector.sweep?.(options)));
  const total = { removed: 0, bytes: 0 };
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') throw outcome.reason;
    total.removed += outcome.value?.removed ?? 0;
    total.bytes += outcome.value?.bytes ?? 0;
  }
  return total;
}
