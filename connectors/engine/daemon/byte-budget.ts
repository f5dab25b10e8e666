// Memory for tensors on their way through the body of a request or an answer: so much in all, used again and again, lent in order of asking.

import { KvError } from '../../../lib/errors.js';

/** Memory of exactly the size that was asked for. */
export interface Loan {
  readonly bytes: Uint8Array;
  /** Gives it back; nothing may use `bytes` afterwards. Calling it twice is fine. */
  release(): void;
}

export interface ByteBudget {
  /** Waits until the memory is there. More than the whole budget is lent alone. Rejects with the signal's reason. */
  lend(bytes: number, signal: AbortSignal): Promise<Loan>;
}

// Sizes differ little: a step lets them share memory.
const STEP_BYTES = 1 << 20;

interface Waiting {
  readonly bytes: number;
  start(): void;
}

/** Makes a budget of `maxBytes` bytes that are lent at once, of which those in nobody's use are kept. */
export function byteBudget(maxBytes: number): ByteBudget {
  const waiting = new Set<Waiting>();
  let free: Uint8Array[] = []; // ascending by size
  let lentBytes = 0;
  let freeBytes = 0;

  function take(bytes: number): Uint8Array {
    const index = free.findIndex((buffer) => buffer.byteLength >= bytes && buffer.byteLength <= 2 * bytes + STEP_BYTES);
    const [buffer] = index === -1 ? [] : free.splice(index, 1);
    if (buffer === undefined) return new Uint8Array(Math.ceil(bytes / STEP_BYTES) * STEP_BYTES);
    freeBytes -= buffer.byteLength;
    return buffer;
  }

  function giveBack(buffer: Uint8Array): void {
    free.push(buffer);
    free.sort((a, b) => a.byteLength - b.byteLength);
    freeBytes += buffer.byteLength;
    while (freeBytes + lentBytes > maxBytes && free.length > 0) freeBytes -= free.shift()?.byteLength ?? 0;
  }

  function startNext(): void {
    for (const next of waiting) {
      if (lentBytes > 0 && lentBytes + next.bytes > maxBytes) return;
      waiting.delete(next);
      next.start();
    }
  }

  function lendNow(bytes: number): Loan {
    const buffer = take(bytes);
    lentBytes += bytes;
    let isOut = true;
    return {
      bytes: buffer.subarray(0, bytes),
      release() {
        if (!isOut) return;
        isOut = false;
        lentBytes -= bytes;
        giveBack(buffer);
        startNext();
      },
    };
  }

  return {
    async lend(bytes, signal) {
      signal.throwIfAborted();
      return new Promise<Loan>((resolve, reject) => {
        const giveUp = (): void => {
          waiting.delete(entry);
          reject(signal.reason);
          startNext();
        };
        const entry: Waiting = {
          bytes,
          start() {
            signal.removeEventListener('abort', giveUp);
            try {
              resolve(lendNow(bytes));
            } catch (cause) {
              reject(new KvError('KV_OUT_OF_MEMORY', `there is no memory for a tensor of ${bytes} bytes`, { cause }));
            }
          },
        };
        signal.addEventListener('abort', giveUp, { once: true });
        waiting.add(entry);
        startNext();
      });
    },
  };
}
