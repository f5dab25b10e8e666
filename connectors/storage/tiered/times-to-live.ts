import { expiryQueue, type Expiring } from '../expiry-queue.js';

/** The ends of the values that were put with a time to live: a copy made later must not outlive them. */
export interface TimesToLive {
  /** Notes the end of a value that was put now; without `ttlMs` it has none. */
  note(key: string, ttlMs: number | undefined): void;
  /** Milliseconds left, 0 or less if the time is over; Infinity where no end is known. */
  remainingMs(key: string): number;
}

interface End extends Expiring {
  readonly key: string;
}

/** Starts without any. What has ended is forgotten: by then the tiers have forgotten the value as well. */
export function timesToLive(now: () => number): TimesToLive {
  const ends = new Map<string, End>();
  const queue = expiryQueue<End>();
  const isCurrent = (end: End): boolean => ends.get(end.key) === end;

  return {
    note(key, ttlMs) {
      ends.delete(key);
      for (let end = queue.takeExpired(now()); end !== undefined; end = queue.takeExpired(now())) {
        if (isCurrent(end)) ends.delete(end.key);
      }
      if (queue.size > 2 * ends.size + 64) queue.keep(isCurrent);
      if (ttlMs === undefined) return;
      const end = { key, expiresAt: now() + ttlMs };
      ends.set(key, end);
      queue.add(end);
    },
    remainingMs: (key) => (ends.get(key)?.expiresAt ?? Infinity) - now(),
  };
}
