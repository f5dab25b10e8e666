import type { CallOptions } from '../../../lib/store/connector.js';
import type { Outcome } from './sink.js';

const OUTCOMES: Readonly<Record<string, Outcome>> = {
  KV_CANCELLED: 'cancelled',
  KV_CLOSED: 'cancelled',
  KV_CONNECTOR_REFUSED: 'refused',
  KV_CONNECTOR_TIMEOUT: 'timeout',
  KV_CONNECTOR_UNAVAILABLE: 'unavailable',
  KV_CORRUPT_OBJECT: 'corrupt',
  KV_NO_SPACE: 'refused',
  KV_OVERLOADED: 'unavailable',
  KV_PERMISSION: 'refused',
  KV_UNSUPPORTED: 'corrupt',
  KV_UNSUPPORTED_VERSION: 'corrupt',
};

/** How a call ended that rejected with `error`. By code, not class: a connector from elsewhere has a KvError of its own. */
export function outcomeOf(error: unknown, { signal }: CallOptions): Outcome {
  const outcome = OUTCOMES[errorType(error)];
  if (outcome !== undefined) return outcome;
  if (error instanceof Error && error.name === 'TimeoutError') return 'timeout'; // of AbortSignal.timeout
  return signal?.aborted && error === signal.reason ? 'cancelled' : 'other';
}

/** An error's code, or else its name. Never its message, which may hold a key. */
export function errorType(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name;
}
