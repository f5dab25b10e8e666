// Defaults and checks of the codec's options. After the check, code inside trusts its input.
import { checkMemory } from './codec/layout.js';
import { CODER_NAMES } from './codec/coders/registry.js';
import { QUALITY_NAMES } from './codec/rungs.js';

/** Options of `encode`. */
export interface EncodeOptions {
  /** `exact`, `near`, `lossy` or a rung's own name (docs/codecs.md lists them). Default `exact`. */
  readonly quality?: string;
  /** `auto`, or a coder's name: raw, exact, rans, hevc, zstd. Default `auto`: the smallest one that every machine can read. */
  readonly coder?: string;
  /**
   * Tokens of one section, the smallest part that can be read alone. At least 1; more than the chunk has means one section. Small ones cost
   * size and speed: 16 is for callers who load single groups of tokens. Default 64.
   */
  readonly groupTokens?: number;
  /** Storage key that the object is made for; written into it and compared on every read. Default: none. */
  readonly key?: string;
  /** Token ids of the chunk, one a token; stored in the header and given back. */
  readonly tokenIds?: Int32Array;
  /** Text to store with the object and give back. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Decode what was encoded and compare before it counts. Default true; also what measures the error of lossy rungs. */
  readonly verify?: boolean;
  /** Caller-owned memory for the object, at least `encodeBound()` bytes; the result is a view of it. Default: allocated. */
  readonly into?: Uint8Array;
  /** Threads that may work on this call. Default 0: all of the pool. */
  readonly threads?: number;
  /** Cancels; the call then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Options of `decode`. */
export interface DecodeOptions {
  /** Caller-owned memory for the tensor, exactly as long as it. Default: allocated. */
  readonly into?: Uint8Array;
  /** The key that the object has to have been made for. Default: any. */
  readonly key?: string;
  /** Largest tensor that is decoded, in bytes: a guard against objects that ask for absurd amounts. Default 8 GiB. */
  readonly maxBytes?: number;
  /** Threads that may work on this call. Default 0: all of the pool. */
  readonly threads?: number;
  /** Cancels; the call then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export const ENCODE_DEFAULTS = { quality: 'exact', coder: 'auto', groupTokens: 64, key: '', verify: true, threads: 0 } as const;
export const DECODE_DEFAULTS = { maxBytes: 8 * 1024 ** 3, threads: 0 } as const;

const ENCODE_FIELDS = new Set(['quality', 'coder', 'groupTokens', 'key', 'tokenIds', 'metadata', 'verify', 'into', 'threads', 'signal']);
const DECODE_FIELDS = new Set(['into', 'key', 'maxBytes', 'threads', 'signal']);

/** Throws a TypeError or RangeError for the first option of `encode` that cannot be. */
export function checkEncodeOptions(options: EncodeOptions): void {
  refuseUnknown(options, ENCODE_FIELDS);
  const { quality, coder, groupTokens, key, tokenIds, verify, into } = options;
  if (quality !== undefined && !QUALITY_NAMES.includes(quality)) throw new TypeError(`expected \`quality\` to be one of ${QUALITY_NAMES.join(', ')}, got ${quality}`);
  if (coder !== undefined && coder !== 'auto' && !CODER_NAMES.includes(coder)) {
    throw new TypeError(`expected \`coder\` to be auto or one of ${CODER_NAMES.join(', ')}, got ${coder}`);
  }
  if (groupTokens !== undefined) expectInteger('groupTokens', groupTokens, 1);
  if (key !== undefined && typeof key !== 'string') throw new TypeError(`expected \`key\` to be a string, got ${typeof key}`);
  if (tokenIds !== undefined && !(tokenIds instanceof Int32Array)) throw new TypeError('expected `tokenIds` to be an Int32Array');
  if (verify !== undefined && typeof verify !== 'boolean') throw new TypeError(`expected \`verify\` to be a boolean, got ${typeof verify}`);
  if (into !== undefined) checkMemory('into', into);
  checkThreads(options.threads);
}

/** Throws a TypeError or RangeError for the first option of `decode` that cannot be. */
export function checkDecodeOptions(options: DecodeOptions): void {
  refuseUnknown(options, DECODE_FIELDS);
  if (options.into !== undefined) checkMemory('into', options.into);
  if (options.maxBytes !== undefined) expectInteger('maxBytes', options.maxBytes, 1);
  checkThreads(options.threads);
}

/** Throws a TypeError for a field that is not among the known ones: a misspelt option must not be ignored. */
export function refuseUnknown(options: object, known: ReadonlySet<string>): void {
  for (const field of Object.keys(options)) {
    if (!known.has(field)) throw new TypeError(`unknown option \`${field}\`; known are ${[...known].join(', ')}`);
  }
}

function checkThreads(threads: number | undefined): void {
  if (threads !== undefined) expectInteger('threads', threads, 0);
}

function expectInteger(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least) throw new RangeError(`expected \`${name}\` to be an integer of at least ${least}, got ${value}`);
}
