// What is known of chunks without asking the store: fed by everything that meets one, forgotten after a while.

/** How long a chunk that was seen is taken to be there. One that went meanwhile is a miss when it is fetched. */
const PRESENT_MS = 60_000;
/** How long a chunk that was not there is taken to be absent: as long as it may take until another node's chunk is seen here. */
const ABSENT_MS = 5_000;
/** Chunks that are known of at once; about 150 bytes each. */
const MAX_KNOWN = 2 ** 20;

export interface PresenceTable {
  /** A character a hash: `1` there, `0` not there, `?` not known (any more). */
  of(space: string, hashes: readonly string[]): string;
  note(space: string, hash: string, isPresent: boolean): void;
}

/** Makes a table; `now` is a clock in milliseconds that is never set. */
export function presenceTable(now: () => number): PresenceTable {
  // Per space, hash -> end of the knowledge; negative where the chunk is absent. Oldest knowledge first.
  const spaces = new Map<string, Map<string, number>>();
  let known = 0;

  function dropOldest(): void {
    for (const [space, hashes] of spaces) {
      const [oldest] = hashes.keys();
      if (oldest !== undefined) {
        hashes.delete(oldest);
        known--;
        return;
      }
      spaces.delete(space);
    }
  }

  return {
    of(space, hashes) {
      const ends = spaces.get(space);
      const time = now();
      let found = '';
      for (const hash of hashes) {
        const until = ends?.get(hash);
        found += until === undefined || Math.abs(until) <= time ? '?' : until > 0 ? '1' : '0';
      }
      return found;
    },
    note(space, hash, isPresent) {
      let hashes = spaces.get(space);
      if (hashes === undefined) spaces.set(space, (hashes = new Map()));
      if (hashes.delete(hash)) known--;
      hashes.set(hash, isPresent ? now() + PRESENT_MS : -(now() + ABSENT_MS));
      if (++known > MAX_KNOWN) dropOldest();
    },
  };
}
