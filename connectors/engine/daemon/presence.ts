// What is known of chunks without asking the store: fed by everything that meets one, forgotten after a while.

/** How long a chunk that was seen is taken to be there. One that went meanwhile is a miss when it is fetched. */
const PRESENT_MS = 60_000;
/** How long a chunk that was not there is taken to be absent: as long as it may take until another node's chunk is seen here. */
const ABSENT_MS = 5_000;
/** Chunks that are known of at once; about 150 bytes each. */
const MAX_KNOWN = 2 ** 20;

const PRESENT = 0x31; // `1`
const ABSENT = 0x30; // `0`

export interface PresenceTable {
  /** A character a hash: `1` there, `0` not there, `?` not known (any more). What is no hash is not known. */
  of(space: string, hashes: readonly unknown[]): string;
  note(space: string, hash: string, isPresent: boolean): void;
}

/** Makes a table; `now` is a clock in milliseconds that is never set. */
export function presenceTable(now: () => number): PresenceTable {
  // Per space, hash -> end of the knowledge; negative where the chunk is absent. Oldest knowledge first.
  const spaces = new Map<string, Map<unknown, number>>();
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
      const found = Buffer.alloc(hashes.length, '?'); // to put text together by the character makes a string for each
      hashes.forEach((hash, i) => {
        const until = ends?.get(hash);
        if (until !== undefined && Math.abs(until) > time) found[i] = until > 0 ? PRESENT : ABSENT;
      });
      return found.toString('latin1');
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
