/** Does `work` for every entry, `concurrency` at once; reads no entry before there is somebody to work on it. The first failure ends it. */
export async function inTurns<T>(entries: AsyncIterable<T>, concurrency: number, work: (entry: T) => Promise<void>): Promise<void> {
  const iterator = entries[Symbol.asyncIterator]();
  let isOver = false;
  const loop = async (): Promise<void> => {
    try {
      while (!isOver) {
        const next = await iterator.next();
        if (next.done === true) return;
        await work(next.value);
      }
    } finally {
      isOver = true;
    }
  };
  const results = await Promise.allSettled(Array.from({ length: concurrency }, loop));
  await iterator.return?.();
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
