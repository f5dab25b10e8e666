import { setMaxListeners } from 'node:events';
import { KvError } from '../errors.js';
import type { CallOptions } from './connector.js';

/** The signal of one call, which also tells that its time is up. */
export interface TimeLimit {
  /** Aborts with the caller's reason, or with KV_CONNECTOR_TIMEOUT. Undefined if nothing limits the call. */
  readonly signal: AbortSignal | undefined;
  /** Forgets caller and timer; to be called when the call has settled. */
  release(): void;
}

/**
 * Limits a call to `limitMs` from now beside its own signal. Timers count the time that passes, so a clock that is set does not
 * move the end. `AbortSignal.any` is not used: a signal that lives as long as the process would collect its dependents.
 */
export function timeLimit({ signal }: CallOptions, limitMs: number | undefined, what: string): TimeLimit {
  // Many calls may share one signal, each with listeners of its own until it settles: that is no leak to warn of.
  if (signal) setMaxListeners(0, signal);
  if (limitMs === undefined || limitMs === Infinity) return { signal, release: () => undefined };
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  const forward = (): void => controller.abort(signal?.reason);
  if (signal?.aborted) forward();
  signal?.addEventListener('abort', forward, { once: true });
  const giveUp = (): void =>
    controller.abort(new KvError('KV_CONNECTOR_TIMEOUT', `${what} did not finish within ${limitMs} ms; the storage is slow or stalled, or the limit is too low for this link`));
  const timer = setTimeout(giveUp, limitMs);
  return {
    signal: controller.signal,
    release() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', forward);
    },
  };
}

/** What `setTimeout` can count. */
const MAX_LIMIT_MS = 2 ** 31 - 1;

/** Throws a RangeError unless `limitMs` is a time that can be waited for, or Infinity for no limit. */
export function checkLimit(name: string, limitMs: number | undefined): void {
  if (limitMs === undefined || limitMs === Infinity || (limitMs > 0 && limitMs <= MAX_LIMIT_MS)) return;
  throw new RangeError(`expected \`${name}\` to be above 0 and at most ${MAX_LIMIT_MS} ms, or Infinity for no limit, got ${limitMs}`);
}
