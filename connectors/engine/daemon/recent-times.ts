/** How long the last calls took. */
export interface Times {
  /** Calls that the rest is of. */
  readonly calls: number;
  readonly p50_ms: number;
  readonly p90_ms: number;
  readonly p99_ms: number;
}

/** Keeps how long calls took, the last ones only. */
export interface RecentTimes {
  add(ms: number): void;
  /** Undefined if there was no call. */
  read(): Times | undefined;
}

export function recentTimes(most: number): RecentTimes {
  const times: number[] = [];
  let next = 0;
  return {
    add(ms) {
      times[next] = ms;
      next = (next + 1) % most;
    },
    read() {
      if (times.length === 0) return undefined;
      const sorted = [...times].sort((a, b) => a - b);
      const at = (share: number): number => round(sorted[Math.ceil(share * sorted.length) - 1] ?? 0);
      return { calls: sorted.length, p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99) };
    },
  };
}

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
