/** Decides which keys are stored at all. */
export interface Admission {
  /** Whether the value that is put now is to be stored; remembers the key if not. */
  admits(key: string): boolean;
}

/** Remembered keys: 20 MiB at most with keys of the usual 100 to 200 bytes. */
const MAX_REMEMBERED_KEYS = 65_536;

/** Admits a key that was put before and is still remembered; the keys that were remembered first are forgotten first. */
export function secondSight(maxKeys = MAX_REMEMBERED_KEYS): Admission {
  const seen = new Set<string>();

  return {
    admits(key) {
      if (seen.delete(key)) return true;
      seen.add(key);
      const [oldest] = seen;
      if (seen.size > maxKeys && oldest !== undefined) seen.delete(oldest);
      return false;
    },
  };
}
