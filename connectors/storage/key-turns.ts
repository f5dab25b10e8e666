/** Makes what changes one key happen one after the other; different keys do not wait for each other. */
export interface KeyTurns {
  /** Runs `work` when all earlier work on `key` has settled. An abort before that rejects with the signal's reason. */
  run<T>(key: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T>;
  /** Whether work on `key` runs or waits. */
  has(key: string): boolean;
}

/** Makes turns that nobody has taken yet. */
export function keyTurns(): KeyTurns {
  // Of each key, the end of the last work that was asked for.
  const ends = new Map<string, Promise<void>>();

  return {
    async run(key, signal, work) {
      const before = ends.get(key);
      let finish = (): void => undefined;
      const end = new Promise<void>((resolve) => (finish = resolve));
      ends.set(key, end);
      try {
        if (before !== undefined) await before;
        signal?.throwIfAborted();
        return await work();
      } finally {
        if (ends.get(key) === end) ends.delete(key);
        finish();
      }
    },
    has: (key) => ends.has(key),
  };
}
