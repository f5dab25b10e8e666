import { KvError } from '../../lib/errors.js';
import type { CallOptions } from '../../lib/store/connector.js';
import { timeLimit } from '../../lib/store/time-limit.js';

/** The open or closed state of one storage connector. */
export interface LifeCycle {
  /**
   * Runs one call, which `close()` then waits for. Rejects with KV_CLOSED once closed, with the signal's reason when that is
   * aborted, and with KV_CONNECTOR_TIMEOUT after the connector's time limit. `work` is told by the signal it gets, and has a
   * moment to settle by itself, because only it knows whether a call can still be undone; one that is stuck is left behind.
   */
  run<T>(options: CallOptions, work: (signal: AbortSignal | undefined) => Promise<T>): Promise<T>;
  /** Refuses new calls at once and resolves when the running ones have settled. Calling it twice is fine. */
  close(): Promise<void>;
}

/** How long an aborted call may take to settle by itself. Promised to callers: deadline + 50 ms. */
const GRACE_MS = 25;

/** Starts the life of the connector called `name`, whose calls may take `limitMs` each. Default: no limit but the caller's. */
export function lifeCycle(name: string, limitMs?: number): LifeCycle {
  const running = new Set<Promise<unknown>>();
  let isClosed = false;

  return {
    async run<T>(options: CallOptions, work: (signal: AbortSignal | undefined) => Promise<T>): Promise<T> {
      if (isClosed) throw new KvError('KV_CLOSED', `the ${name} connector is closed; make a new one`);
      options.signal?.throwIfAborted();
      const limit = timeLimit(options, limitMs, name);
      const call = work(limit.signal).finally(() => {
        limit.release();
        running.delete(call);
      });
      running.add(call);
      return settleInTime(call, limit.signal);
    },

    async close(): Promise<void> {
      isClosed = true;
      await Promise.allSettled(running);
    },
  };
}

/** The outcome of `call`, or the signal's reason if it is still running some time after the abort. */
function settleInTime<T>(call: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return call;
  return new Promise<T>((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const onAbort = (): void => {
      timer = setTimeout(() => reject(signal.reason), GRACE_MS);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    call.then(resolve, reject).finally(() => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    });
  });
}
