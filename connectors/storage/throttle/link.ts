// One direction of a link. Transfers take turns, a few milliseconds of the link each, so that a short one is not held up by the rest
// of a long one. While any is under way the link's time is reckoned, not measured: timers that fire late cost no bandwidth.
import type { Clock } from './clock.js';

/** One direction of a slow link. */
export interface Link {
  /** Resolves when the link has carried that many bytes for this call, or rejects with the signal's reason. */
  carry(bytes: number, signal?: AbortSignal): Promise<void>;
}

interface Transfer {
  bytesLeft: number;
  done(): void;
}

/** What one turn takes. */
const TURN_MS = 5;

/** Makes one direction of a link that carries `bytesPerSecond`. */
export function link(bytesPerSecond: number, clock: Clock): Link {
  const turnBytes = Math.max(1, Math.floor((bytesPerSecond * TURN_MS) / 1000));
  const waiting: Transfer[] = [];
  let isBusy = false;

  async function run(): Promise<void> {
    isBusy = true;
    let freeAt = clock.now();
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const bytes = Math.min(next.bytesLeft, turnBytes);
      freeAt += (bytes / bytesPerSecond) * 1000;
      const waitMs = freeAt - clock.now();
      if (waitMs > 0) await clock.sleep(waitMs);
      next.bytesLeft -= bytes;
      if (next.bytesLeft > 0) waiting.push(next);
      else next.done();
    }
    isBusy = false;
  }

  return {
    carry: (bytes, signal) =>
      new Promise((resolve, reject) => {
        signal?.throwIfAborted();
        if (bytes === 0) return resolve();
        const transfer: Transfer = {
          bytesLeft: bytes,
          done() {
            signal?.removeEventListener('abort', giveUp);
            resolve();
          },
        };
        const giveUp = (): void => {
          transfer.bytesLeft = 0; // its next turn takes no time and is the last one
          reject(signal?.reason);
        };
        signal?.addEventListener('abort', giveUp, { once: true });
        waiting.push(transfer);
        if (!isBusy) void run();
      }),
  };
}
