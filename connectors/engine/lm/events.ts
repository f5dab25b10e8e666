/** What became of one request: told once it is over. */
export interface LmEvent {
  readonly command: 'put' | 'get' | 'exist';
  /**
   * `hit`: found and sent. `miss`: not stored. `stored`: put. `refused`: cannot be served. `dropped`: a put for which there was no room in time.
   * `failed`: the store did not do it.
   */
  readonly outcome: 'hit' | 'miss' | 'stored' | 'refused' | 'dropped' | 'failed';
  /** Of the tensor that was sent or received. */
  readonly rawBytes: number;
  /** Read of its object, or stored for it. */
  readonly storedBytes: number;
  /** Of its key; left out where that is none. */
  readonly model?: string;
  /** Of a tensor that was sent or stored. */
  readonly rung?: string;
  readonly ms: number;
  /** Why it was refused, dropped or failed. */
  readonly reason?: string;
  /** Of a failure, and KV_OVERLOADED of a put that was dropped. */
  readonly code?: string;
}

/** What the server tells of itself. Called on its hot path: may not throw, and should not take long. */
export interface LmEvents {
  onRequest(event: LmEvent): void;
  /** A client was sent away, or dropped for what it did or did not send. */
  onClientLost(reason: string): void;
  /** Tensors are kept as bytes, or a stored object was taken for a miss. */
  onWarning(reason: string): void;
}
