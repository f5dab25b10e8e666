// What a measured connector tells, and whom: the interface between it and whatever keeps numbers.

/** The verbs of a storage connector, `close` apart. */
export type Verb = 'get' | 'put' | 'has' | 'delete' | 'list' | 'sweep' | 'repair';

/**
 * How a call ended. `hit`: get or has found it. `done`: another verb did it. The others are causes of a miss: `absent`, it was not
 * there; `corrupt`, what was there is damaged, or not readable here; `timeout`; `unavailable`; `refused`, the far end or the connector would not, for good;
 * `cancelled`, the caller gave up, or the connector was closed; `other`, the caller's mistake or something unforeseen.
 */
export type Outcome = 'hit' | 'done' | 'absent' | 'corrupt' | 'timeout' | 'unavailable' | 'refused' | 'cancelled' | 'other';

/** One call that begins. No key: keys would make a time series each. */
export interface MeasuredCall {
  /** Name of the connector. */
  readonly connector: string;
  readonly verb: Verb;
}

/** How one call ended. */
export interface CallEnd {
  readonly outcome: Outcome;
  readonly durationMs: number;
  /** Value bytes that a get gave or a put took; 0 otherwise, and where it failed. */
  readonly bytes: number;
  /** Code of the error (`KV_...`), or its name where it has none; only if the call rejected. */
  readonly errorType?: string;
}

/** Keeps the numbers. Its functions must not throw. */
export interface MeasuredSink {
  /** A call begins. What this returns is called once, when the call has ended. */
  begin(call: MeasuredCall): (end: CallEnd) => void;
  /**
   * An object that a get gave was found damaged, or not to be what was asked for, by the store. A store is told by its options:
   * `onCorrupt: (error) => sink.verifyFailure(connector.name, error)`.
   */
  verifyFailure(connector: string, error: Error): void;
  /** A breaker changed: `onStateChange: ({ state }) => sink.breakerState(connector.name, state)`. */
  breakerState(connector: string, state: 'closed' | 'open' | 'half-open'): void;
}
