/** What was counted in one second. */
export interface SecondCounts {
  hits: number;
  misses: number;
  failed: number;
  stored: number;
  /** Bytes of tensors that were fetched, and read of their objects. */
  rawBytes: number;
  storedBytes: number;
}

/** Counts by second, of the last ones only. */
export interface RecentSeconds {
  /** The counts of the second that it is now. */
  now(): SecondCounts;
  /** Those of the last seconds that are over, the oldest first. */
  last(): SecondCounts[];
}

/** Keeps `count` seconds. `nowMs` is a clock in milliseconds that only goes forward. */
export function recentSeconds(count: number, nowMs: () => number): RecentSeconds {
  const slots = new Map<number, SecondCounts>();
  const second = (): number => Math.floor(nowMs() / 1000);
  return {
    now() {
      const current = second();
      const found = slots.get(current);
      if (found !== undefined) return found;
      for (const old of slots.keys()) if (old < current - count) slots.delete(old);
      const counts = noCounts();
      slots.set(current, counts);
      return counts;
    },
    last() {
      const current = second();
      return Array.from({ length: count }, (_, i) => slots.get(current - count + i) ?? noCounts());
    },
  };
}

function noCounts(): SecondCounts {
  return { hits: 0, misses: 0, failed: 0, stored: 0, rawBytes: 0, storedBytes: 0 };
}
