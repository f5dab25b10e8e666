/** Stable codes; messages are free to change. A caller's mistake is a TypeError or RangeError and has no code. */
export type KvErrorCode =
  | 'KV_ADDON_MISSING'
  | 'KV_CANCELLED'
  | 'KV_CLOSED'
  | 'KV_CONNECTOR_REFUSED'
  | 'KV_CONNECTOR_TIMEOUT'
  | 'KV_CONNECTOR_UNAVAILABLE'
  | 'KV_CORRUPT_OBJECT'
  | 'KV_EXISTS'
  | 'KV_GEOMETRY_MISMATCH'
  | 'KV_INTERNAL'
  | 'KV_INVALID_INPUT'
  | 'KV_KEYS_DIFFER'
  | 'KV_MISSING_DEPENDENCY'
  | 'KV_NO_SPACE'
  | 'KV_OUT_OF_MEMORY'
  | 'KV_OVERLOADED'
  | 'KV_PERMISSION'
  | 'KV_STALE_SEGMENT'
  | 'KV_UNKNOWN_SPACE'
  | 'KV_UNSUPPORTED'
  | 'KV_UNSUPPORTED_VERSION';

const RETRYABLE: ReadonlySet<KvErrorCode> = new Set([
  'KV_CONNECTOR_TIMEOUT',
  'KV_CONNECTOR_UNAVAILABLE',
  'KV_OVERLOADED',
]);

/** The one error class of this library for what the world does wrong. */
export class KvError extends Error {
  override readonly name = 'KvError';
  readonly code: KvErrorCode;
  /** Whether the same call may succeed later without anything being changed. */
  readonly retryable: boolean;

  constructor(code: KvErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.retryable = RETRYABLE.has(code);
  }
}
