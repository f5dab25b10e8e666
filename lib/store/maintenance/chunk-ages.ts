/** Age and size of many chunks, 16 bytes each: enough to choose what goes first. Without an age a chunk counts as the oldest. */
export interface ChunkAges {
  readonly count: number;
  readonly bytes: number;
  /** How many have no age. */
  readonly unknown: number;
  add(bytes: number, storedAtMs: number | undefined): void;
  /** Which chunks to delete so that at most `maxBytes` are left. Undefined if that is so already. */
  cutoff(maxBytes: number): Cutoff | undefined;
}

/** Delete what was stored before `storedAtMs`, and of what was stored at that moment at least `bytesThen`. */
export interface Cutoff {
  readonly storedAtMs: number;
  readonly bytesThen: number;
}

/** Starts with no chunk. */
export function chunkAges(): ChunkAges {
  const times: number[] = [];
  const sizes: number[] = [];
  let total = 0;
  let unknown = 0;
  return {
    get count() {
      return times.length;
    },
    get bytes() {
      return total;
    },
    get unknown() {
      return unknown;
    },
    add(bytes, storedAtMs) {
      if (storedAtMs === undefined) unknown++;
      times.push(storedAtMs ?? -Infinity);
      sizes.push(bytes);
      total += bytes;
    },
    cutoff(maxBytes) {
      const excess = total - maxBytes;
      if (!(excess > 0)) return undefined;
      const timeOf = (index: number): number => times[index] ?? 0;
      // Compared, not subtracted: the difference of two infinities is no number.
      const oldestFirst = Uint32Array.from(times, (_, i) => i).sort((a, b) => (timeOf(a) < timeOf(b) ? -1 : timeOf(a) > timeOf(b) ? 1 : 0));
      let before = 0;
      let then = 0;
      let storedAtMs = -Infinity;
      for (const index of oldestFirst) {
        if (timeOf(index) !== storedAtMs) {
          if (before + then >= excess) break;
          before += then;
          then = 0;
          storedAtMs = timeOf(index);
        }
        then += sizes[index] ?? 0;
      }
      return { storedAtMs, bytesThen: excess - before };
    },
  };
}
