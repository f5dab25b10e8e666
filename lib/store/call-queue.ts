import PQueue from 'p-queue';
import type { CallOptions } from './connector.js';

/** Lets a bounded number of calls run at once. */
export interface CallQueue {
  /**
   * Runs `work` when its turn comes. An abort takes a waiting call out at once; a running one settles when `work` does, because
   * until then memory of the caller is in use.
   */
  run<T>(options: CallOptions, work: () => Promise<T>): Promise<T>;
}

/** Makes a queue for `concurrency` calls at once. */
export function callQueue(concurrency: number): CallQueue {
  const queue = new PQueue({ concurrency });
  return {
    async run<T>({ signal }: CallOptions, work: () => Promise<T>): Promise<T> {
      signal?.throwIfAborted();
      return new Promise<T>((resolve, reject) => {
        const giveUp = (): void => reject(signal?.reason);
        signal?.addEventListener('abort', giveUp, { once: true });
        // Not p-queue's own signal: that one rejects while the work still runs.
        const turn = queue.add(async () => {
          signal?.removeEventListener('abort', giveUp);
          signal?.throwIfAborted();
          resolve(await work());
        });
        turn.catch(reject);
      });
    },
  };
}
