import type { CallOptions } from '../../../lib/store/connector.js';

/** What a rejected call says about the far end: it answered, it failed, or nothing. */
export type Verdict = 'answered' | 'failed' | 'nothing';

/**
 * Judges an error by code and `retryable`, not by class: a connector from elsewhere has a KvError of its own. A caller who gave up says
 * nothing about the far end. One whose time ran out does: the signal's reason then has the code KV_CONNECTOR_TIMEOUT, or is the
 * TimeoutError of `AbortSignal.timeout`.
 */
export function judge(error: unknown, { signal }: CallOptions): Verdict {
  if (!(error instanceof Error)) return 'nothing';
  const code = 'code' in error ? error.code : undefined;
  if (signal?.aborted && error === signal.reason) return error.name === 'TimeoutError' || code === 'KV_CONNECTOR_TIMEOUT' ? 'failed' : 'nothing';
  if ('retryable' in error && error.retryable === true) return 'failed';
  return typeof code === 'string' && code.startsWith('KV_') && code !== 'KV_CLOSED' ? 'answered' : 'nothing';
}
