// Puts that were received and are not stored yet. LMCache waits for no answer to a put, and may ask for the chunk right after it.

/** The puts that run, by key. */
export interface PendingPuts {
  /** Runs a put after the ones of the same key before it. Resolves or rejects as `work` does. */
  run(key: string, work: () => Promise<void>): Promise<void>;
  /** Waits for the puts of a key that are known by now, however they end. */
  settled(key: string): Promise<void>;
  /** Waits for all of them. */
  allSettled(): Promise<void>;
}

export function pendingPuts(): PendingPuts {
  const last = new Map<string, Promise<void>>();
  return {
    run(key, work) {
      const before = last.get(key) ?? Promise.resolve();
      const put = before.then(work);
      const settled = put.catch(() => undefined).finally(() => last.get(key) === settled && last.delete(key));
      last.set(key, settled);
      return put;
    },
    settled: (key) => last.get(key) ?? Promise.resolve(),
    allSettled: async () => void (await Promise.all(last.values())),
  };
}
