import { KvError } from '../../lib/errors.js';
import type { CallOptions } from '../../lib/store/connector.js';

/** The open or closed state of one storage connector. */
export interface LifeCycle {
  /**
   * Runs one call, which `close()` then waits for. Rejects with KV_CLOSED once closed, and with the signal's reason if it is
   * aborted already; later aborts are for `work` to notice, because only it knows when a call can no longer be undone.
   */
  run<T>(options: CallOptions, work: () => Promise<T>): Promise<T>;
  /** Refuses new calls at once and resolves when the running ones have settled. Calling it twice is fine. */
  close(): Promise<void>;
}

/** Starts the life of the connector called `name`. */
export function lifeCycle(name: string): LifeCycle {
  const running = new Set<Promise<unknown>>();
  let isClosed = false;

  return {
    async run<T>(options: CallOptions, work: () => Promise<T>): Promise<T> {
      if (isClosed) throw new KvError('KV_CLOSED', `the ${name} connector is closed; make a new one`);
      options.signal?.throwIfAborted();
      const call = work();
      running.add(call);
      try {
        return await call;
      } finally {
        running.delete(call);
      }
    },

    async close(): Promise<void> {
      isClosed = true;
      await Promise.allSettled(running);
    },
  };
}
