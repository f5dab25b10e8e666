// Mends tiers in the background: copies up what they lack, takes away what is damaged.
import { setMaxListeners } from 'node:events';
import type { KeyTurns } from '../key-turns.js';
import type { KeyMark } from '../key-watch.js';
import type { Tier } from './tier.js';

/** A value that was found below tiers that should have it. */
export interface Promotion {
  readonly key: string;
  readonly value: Uint8Array;
  readonly tiers: readonly Tier[];
  /** Made before the value was read. */
  readonly mark: KeyMark;
}

export interface PromotionOptions {
  readonly maxBytes: number;
  /** Shared with puts and deletes, which must not meet a promotion of their key. */
  readonly turns: KeyTurns;
  /** The rest of the value's time to live, in milliseconds; Infinity for no end. */
  readonly remainingMs: (key: string) => number;
}

export interface Promotions {
  /** Copies the value and starts; undefined where it or too much is on its way already. The promise never rejects. */
  start(promotion: Promotion): Promise<void> | undefined;
  /** Deletes copies that are in doubt. The promise never rejects. */
  discard(key: string, tiers: readonly Tier[]): Promise<void>;
  /** Cancels what is on its way and waits for it. */
  close(reason: Error): Promise<void>;
}

/** Makes the promotions of one stack. */
export function promotions({ maxBytes, turns, remainingMs }: PromotionOptions): Promotions {
  const closing = new AbortController();
  setMaxListeners(0, closing.signal); // each value on its way listens
  const promoted = new Set<string>();
  const running = new Set<Promise<void>>();
  let bytesUnderWay = 0;

  function inBackground(key: string, work: () => Promise<void>): Promise<void> {
    // Failures were told to `onFailure`, and nobody waits for this; what is left is the end of the stack.
    const task = turns.run(key, closing.signal, work).catch(() => undefined);
    running.add(task);
    return task.finally(() => running.delete(task));
  }

  async function carryOut(key: string, value: Uint8Array, { tiers, mark }: Promotion): Promise<void> {
    const ttlMs = remainingMs(key);
    if (mark.isStale || ttlMs <= 0) return; // changed since it was read, or over
    await Promise.all(
      tiers.map(async (tier) => {
        const options = ttlMs === Infinity ? {} : { ttlMs };
        const put = await tier.attempt(closing.signal, (call) => tier.connector.put(key, value, { ...call, ...options }));
        if (put.isDone) tier.trust(key);
      }),
    );
  }

  return {
    start(promotion) {
      const { key, value } = promotion;
      const bytes = value.byteLength;
      if (promoted.has(key) || bytesUnderWay + bytes > maxBytes) return undefined;
      promoted.add(key);
      bytesUnderWay += bytes;
      // A copy, because the value is the caller's from now on.
      const copy = new Uint8Array(value);
      return inBackground(key, () => carryOut(key, copy, promotion)).finally(() => {
        bytesUnderWay -= bytes;
        promoted.delete(key);
      });
    },
    discard: (key, tiers) =>
      inBackground(key, async () => {
        await Promise.all(tiers.filter((tier) => tier.isDoubtful(key)).map((tier) => tier.discard(key)));
      }),
    async close(reason) {
      closing.abort(reason);
      await Promise.all(running);
    },
  };
}
