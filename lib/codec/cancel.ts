/** Runs `work` with a flag that the addon polls, set when `signal` aborts; rejects then with the signal's reason. */
export async function withCancelFlag<T>(signal: AbortSignal | undefined, work: (cancel: Int32Array) => Promise<T>): Promise<T> {
  signal?.throwIfAborted();
  const cancel = new Int32Array(1);
  const abort = (): void => {
    Atomics.store(cancel, 0, 1);
  };
  signal?.addEventListener('abort', abort, { once: true });
  try {
    const result = await work(cancel);
    signal?.throwIfAborted();
    return result;
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}
