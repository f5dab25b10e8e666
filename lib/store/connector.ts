/** Options that every verb takes. */
export interface CallOptions {
  /** Aborts the call; it then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A span of bytes inside a stored value. */
export interface ByteRange {
  /** First byte, 0-based. */
  readonly offset: number;
  /** Number of bytes wanted; the answer is shorter only where the value ends first. */
  readonly length: number;
}

export interface GetOptions extends CallOptions {
  /** Read only this part. A range that starts at or after the end gives an empty array. */
  readonly range?: ByteRange;
  /**
   * Caller-owned memory to read into; the result is then a view of it. Rejects with a RangeError if it is too small. Do not use
   * the memory again after a call that was aborted: a read that the system cannot take back may still write to it.
   */
  readonly into?: Uint8Array;
}

export interface PutOptions extends CallOptions {
  /** Time to live in milliseconds, if `supports.ttl`. Default: kept until deleted. */
  readonly ttlMs?: number;
}

/** One stored value, as `list` reports it. */
export interface ListedValue {
  readonly key: string;
  readonly bytes: number;
  /** When it was put, in milliseconds since 1970, where the storage knows: the order for eviction after a restart. */
  readonly storedAtMs?: number;
}

/** What a sweep removed. */
export interface SweepResult {
  /** How many things: files, entries, uploads. */
  readonly removed: number;
  readonly bytes: number;
}

/** Judges one copy of a value. */
export type SoundnessCheck = (value: Uint8Array, key: string) => boolean | Promise<boolean>;

/** What `repair` found and did: numbers of copies. */
export interface Repair {
  readonly sound: number;
  readonly replaced: number;
  readonly deleted: number;
  /** Copies that could not be read, or not be changed. */
  readonly failed: number;
}

/**
 * The storage end: bytes in, bytes out. Everything that can hold bytes implements these verbs and passes
 * `test/contract/storage-connector.ts`. Keys are printable ASCII without control characters, 1 to 512 bytes, `/` separating
 * parts; other keys are refused with a TypeError. After `close()` every verb rejects with KV_CLOSED.
 */
export interface StorageConnector {
  readonly name: string;
  readonly supports: { readonly range: boolean; readonly ttl: boolean };
  /** The value, or undefined if there is none. */
  get(key: string, options?: GetOptions): Promise<Uint8Array | undefined>;
  /**
   * Stores the whole value or nothing; a reader never sees half of it. Replaces what was there. An aborted put may still take
   * effect where the far end had all of it already.
   */
  put(key: string, value: Uint8Array, options?: PutOptions): Promise<void>;
  has(key: string, options?: CallOptions): Promise<boolean>;
  /** True if there was something to delete. */
  delete(key: string, options?: CallOptions): Promise<boolean>;
  /** Every value whose key starts with `prefix`, in no particular order. */
  list(prefix: string, options?: CallOptions): AsyncIterable<ListedValue>;
  /**
   * Removes what nobody can get: leftovers of puts that broke off, values that are damaged or whose time is over. Leaves running
   * puts alone. Left out where the storage leaves nothing behind.
   */
  sweep?(options?: CallOptions): Promise<SweepResult>;
  /**
   * Replaces the copies of a value that are not sound by one that is, or deletes them if there is none. Left out where the storage
   * keeps one copy.
   */
  repair?(key: string, isSound: SoundnessCheck, options?: CallOptions): Promise<Repair>;
  /** The value where the connector has it in memory of its own: no copy, so nobody may change it. Left out where there is no such memory. */
  held?(key: string): Uint8Array | undefined;
  /** Waits for running calls, then frees what is held. Calling it twice is fine. */
  close(): Promise<void>;
}
