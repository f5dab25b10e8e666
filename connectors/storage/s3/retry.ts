import { setTimeout } from 'node:timers/promises';
import { S3Failure } from './failure.js';

const TRIES = 4;
const FIRST_WAIT_MS = 100;
/** A server that asks for a longer pause gets it: this call ends instead of waiting. */
const LONGEST_WAIT_MS = 5000;

/**
 * Tries again what failed for a moment only, up to four times, with random waits that grow, or the wait that the server asked
 * for. The call's own time limit ends it earlier.
 */
export async function withRetries<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  for (let tried = 1; ; tried++) {
    try {
      return await work();
    } catch (cause) {
      if (!(cause instanceof S3Failure && cause.isTransient) || tried === TRIES) throw cause;
      const waitMs = cause.retryAfterMs ?? Math.random() * FIRST_WAIT_MS * 2 ** tried;
      if (waitMs > LONGEST_WAIT_MS) throw cause;
      await waitFor(waitMs, signal);
    }
  }
}

async function waitFor(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await setTimeout(ms, undefined, signal === undefined ? {} : { signal });
  } catch {
    signal?.throwIfAborted(); // the timer's own error does not carry the reason
  }
}

/** Milliseconds that a Retry-After header asks for: seconds, or a date. Undefined for anything else. */
export function retryAfterMs(header: unknown, now: number): number | undefined {
  if (typeof header !== 'string') return undefined;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
