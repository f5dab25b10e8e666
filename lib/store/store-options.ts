import { CODER_NAMES } from '../codec/coders/registry.js';
import { checkMemory } from '../codec/layout.js';
import { DECODE_DEFAULTS, ENCODE_DEFAULTS, refuseUnknown } from '../options.js';
import type { CallOptions, StorageConnector } from './connector.js';
import type { Namespace } from './namespace.js';
import type { Part } from './part.js';

/** Options of `KvStore`. */
export interface KvStoreOptions {
  /** What its tensors have in common: model, geometry, tenant, quality. */
  readonly namespace: Namespace;
  /** Where objects are kept. Not closed with the store: several stores may share it. */
  readonly connector: StorageConnector;
  /** `auto`, or a coder's name. Default `auto`: the smallest one that every machine can read. */
  readonly coder?: string;
  /** Tokens of one section, the smallest part that can be read alone. At least 1. Default 64. */
  readonly groupTokens?: number;
  /** Decode and compare each object before it is stored. Default true. */
  readonly verify?: boolean;
  /** Threads that may work on one chunk. Default 0: all of the pool. */
  readonly threads?: number;
  /** Chunks that are worked on at once, at least 1; each holds memory for one object. Default 4. */
  readonly concurrency?: number;
  /** Largest tensor that is fetched, in bytes: a guard against objects that ask for absurd amounts. Default 8 GiB. */
  readonly maxBytes?: number;
  /**
   * Told why a stored object was taken for a miss: KV_CORRUPT_OBJECT, KV_GEOMETRY_MISMATCH, KV_UNSUPPORTED or KV_UNSUPPORTED_VERSION. One of the
   * first two codes means that it was read twice, and then replaced by a sound copy or deleted; where that failed, this is told why.
   */
  readonly onCorrupt?: (error: Error, key: string) => void;
}

/** Options that every call of a store takes. */
export interface StoreCallOptions extends CallOptions {
  /** Time that the call may take, in milliseconds, waiting and decoding included; then it rejects with KV_CONNECTOR_TIMEOUT. Default: no limit. */
  readonly deadlineMs?: number;
}

/** Options of `put`. */
export interface PutTensorOptions extends StoreCallOptions {
  /** Token ids of the chunk, one a token; stored with it and given back. */
  readonly tokenIds?: Int32Array;
  /** Text to store with the object and give back. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Options of `fetch`. */
export interface FetchOptions extends StoreCallOptions, Part {
  /** Quality of the objects to look for: `exact` never gives anything else. Default: the store's. */
  readonly quality?: string;
  /** Caller-owned memory for the tensor, exactly as long as it; after a miss it may hold anything. Default: allocated. */
  readonly into?: Uint8Array;
  /** Gives `layers` in the order of the whole chunk; not with `tokens`, as blocks do not come apart. Default: parts are canonical, `split` or (where layers have one plane) `mla`. */
  readonly storedOrder?: boolean;
}

/** Options of `lookup`. */
export interface LookupOptions extends StoreCallOptions {
  /** Quality of the objects to look for. Default: the store's. */
  readonly quality?: string;
}

export const STORE_DEFAULTS = { ...ENCODE_DEFAULTS, ...DECODE_DEFAULTS, concurrency: 4 } as const;

const STORE_FIELDS = new Set(['namespace', 'connector', 'coder', 'groupTokens', 'verify', 'threads', 'concurrency', 'maxBytes', 'onCorrupt']);
const PUT_FIELDS = new Set(['tokenIds', 'metadata', 'signal', 'deadlineMs']);
const FETCH_FIELDS = new Set(['quality', 'into', 'layers', 'tokens', 'storedOrder', 'signal', 'deadlineMs']);

/** Throws a TypeError or RangeError for the first option of `KvStore` that cannot be; the namespace checks itself. */
export function checkStoreOptions(options: KvStoreOptions): void {
  refuseUnknown(options, STORE_FIELDS);
  const { connector, coder, verify, onCorrupt } = options;
  if (typeof connector?.get !== 'function') throw new TypeError('expected `connector` to be a storage connector');
  if (coder !== undefined && coder !== 'auto' && !CODER_NAMES.includes(coder)) throw new TypeError(`expected \`coder\` to be auto or one of ${CODER_NAMES.join(', ')}, got ${coder}`);
  if (verify !== undefined && typeof verify !== 'boolean') throw new TypeError(`expected \`verify\` to be a boolean, got ${typeof verify}`);
  if (onCorrupt !== undefined && typeof onCorrupt !== 'function') throw new TypeError(`expected \`onCorrupt\` to be a function, got ${typeof onCorrupt}`);
  expectInteger('groupTokens', options.groupTokens, 1);
  expectInteger('threads', options.threads, 0);
  expectInteger('concurrency', options.concurrency, 1);
  expectInteger('maxBytes', options.maxBytes, 1);
}

/** Throws a TypeError for an option of `put` that is not known; `encode` checks the values. */
export function checkPutOptions(options: PutTensorOptions): void {
  refuseUnknown(options, PUT_FIELDS);
}

/** Throws a TypeError for an option of `fetch` that cannot be. */
export function checkFetchOptions(options: FetchOptions): void {
  refuseUnknown(options, FETCH_FIELDS);
  const { into, storedOrder, tokens } = options;
  if (into !== undefined) checkMemory('into', into);
  if (storedOrder !== undefined && typeof storedOrder !== 'boolean') throw new TypeError(`expected \`storedOrder\` to be a boolean, got ${typeof storedOrder}`);
  if (storedOrder && tokens !== undefined) throw new RangeError('expected no `tokens` with `storedOrder`: blocks of tokens do not come apart; ask for either');
}

function expectInteger(name: string, value: number | undefined, least: number): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= least)) return;
  throw new RangeError(`expected \`${name}\` to be an integer of at least ${least}, got ${value}`);
}
