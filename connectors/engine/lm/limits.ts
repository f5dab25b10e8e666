/** What one client may take. */
export interface LmLimits {
  /** Largest tensor that is stored, in bytes. */
  readonly maxBytes: number;
  /** For a get or exist, in milliseconds: then it is a miss. */
  readonly deadlineMs: number;
  /** For a put to be stored, in milliseconds. Nobody waits for it, but its memory is held. */
  readonly putDeadlineMs: number;
  /** Bytes of puts that may wait for the store, beside one put of any size. */
  readonly pendingBytes: number;
  /** How long a put waits for room, in milliseconds, before it is dropped: gets of the same client wait behind it. */
  readonly roomWaitMs: number;
  /** Time for a message that has begun to come or go, in milliseconds, beside a second for each megabyte. */
  readonly transferMs: number;
  /** For the request that is being answered when the server stops, in milliseconds. */
  readonly stopMs: number;
}

/** Those that nobody has a reason to set. */
export const FIXED_LIMITS = { putDeadlineMs: 60_000, pendingBytes: 256 * 2 ** 20, roomWaitMs: 2_000, transferMs: 10_000, stopMs: 5_000 } as const;
