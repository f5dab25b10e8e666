// Puts that were received and are not stored yet. LMCache waits for no answer to a put, and may ask for the chunk right after it.
import { KvError } from '../../../lib/errors.js';

/** The puts that run, by key. */
export interface PendingPuts {
  /** Runs a put after the ones of the same key before it. Resolves or rejects as `work` does, whose signal aborts after `limitMs`. */
  run<T>(key: string, limitMs: number, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** Waits for the puts of a key that are known by now, however they end. */
  settled(key: string): Promise<void>;
  /** Waits for all of them, and aborts those that take longer than `limitMs`. */
  end(limitMs: number): Promise<void>;
}

function giveUp(put: AbortController): void {
  put.abort(new KvError('KV_CLOSED', 'the server stopped before the put was stored'));
}

export function pendingPuts(): PendingPuts {
  const last = new Map<string, Promise<void>>();
  const running = new Set<AbortController>();
  let isOver = false;

  async function limited<T>(limitMs: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(new KvError('KV_CONNECTOR_TIMEOUT', `the store did not take the put within ${limitMs} ms`)), limitMs);
    running.add(controller);
    if (isOver) giveUp(controller);
    try {
      return await work(controller.signal);
    } finally {
      clearTimeout(timer);
      running.delete(controller);
    }
  }

  return {
    run<T>(key: string, limitMs: number, work: (signal: AbortSignal) => Promise<T>) {
      const before = last.get(key) ?? Promise.resolve();
      const put = before.then(() => limited(limitMs, work));
      const settled: Promise<void> = put
        .then(
          () => undefined,
          () => undefined,
        )
        .finally(() => {
          if (last.get(key) === settled) last.delete(key);
        });
      last.set(key, settled);
      return put;
    },
    settled: (key) => last.get(key) ?? Promise.resolve(),
    async end(limitMs) {
      const timer = setTimeout(() => {
        isOver = true;
        running.forEach(giveUp);
      }, limitMs);
      await Promise.all(last.values());
      clearTimeout(timer);
    },
  };
}
