// Checks of what a caller hands to a storage connector. A mistake is a TypeError or RangeError before any work starts.
import type { ByteRange, GetOptions, PutOptions } from '../../lib/store/connector.js';

/** Longest key in bytes; keys are ASCII, so also in characters. */
export const MAX_KEY_BYTES = 512;

const PRINTABLE_ASCII = /^[\x20-\x7e]*$/;

/** Throws a TypeError unless `key` is 1 to 512 printable ASCII characters. */
export function checkKey(key: string): void {
  checkPrefix(key, 'key');
  if (key.length === 0) throw new TypeError('expected the key to have 1 to 512 bytes, got an empty one');
}

/** Throws a TypeError unless a key could start with `prefix`; the empty prefix is fine. */
export function checkPrefix(prefix: string, what = 'prefix'): void {
  if (typeof prefix !== 'string') throw new TypeError(`expected the ${what} to be a string, got ${typeof prefix}`);
  if (prefix.length > MAX_KEY_BYTES) {
    throw new TypeError(`expected the ${what} to have at most ${MAX_KEY_BYTES} bytes, got ${prefix.length}`);
  }
  if (!PRINTABLE_ASCII.test(prefix)) {
    throw new TypeError(`expected the ${what} to be printable ASCII, got ${JSON.stringify(prefix)}`);
  }
}

/** Throws a TypeError unless `value` is bytes and `ttlMs` is asked only of a connector that keeps it. */
export function checkPut(value: Uint8Array, options: PutOptions, supportsTtl: boolean): void {
  if (!(value instanceof Uint8Array)) throw new TypeError(`expected the value to be a Uint8Array, got ${typeof value}`);
  if (options.ttlMs === undefined) return;
  if (!supportsTtl) throw new TypeError('expected no `ttlMs`: this connector keeps values until they are deleted');
  if (!(options.ttlMs > 0)) throw new RangeError(`expected \`ttlMs\` to be above 0, got ${options.ttlMs}`);
}

/** Throws a RangeError unless both ends of the range are whole numbers from 0. */
export function checkRange(range: ByteRange | undefined): void {
  if (range === undefined) return;
  for (const field of ['offset', 'length'] as const) {
    if (!Number.isSafeInteger(range[field]) || range[field] < 0) {
      throw new RangeError(`expected \`range.${field}\` to be a whole number from 0, got ${range[field]}`);
    }
  }
}

/** Where the wanted bytes of a value start, and the memory that they go to. */
export interface ReadPlace {
  readonly offset: number;
  readonly target: Uint8Array;
}

/** Cuts the range to a value of `valueBytes` bytes and finds memory for it. Throws a RangeError if `into` is too small. */
export function placeRead(valueBytes: number, options: GetOptions): ReadPlace {
  const { range, into } = options;
  const offset = Math.min(range?.offset ?? 0, valueBytes);
  const length = Math.min(range?.length ?? valueBytes, valueBytes - offset);
  if (into === undefined) return { offset, target: new Uint8Array(length) };
  if (into.byteLength < length) {
    throw new RangeError(`expected \`into\` to have at least ${length} bytes, got ${into.byteLength}`);
  }
  return { offset, target: into.subarray(0, length) };
}

/** Throws a TypeError if a constructor's options have a field it does not know. */
export function checkFields(options: object, known: readonly string[]): void {
  const unknown = Object.keys(options).find((field) => !known.includes(field));
  if (unknown !== undefined) throw new TypeError(`expected only the options ${known.join(', ')}, got \`${unknown}\``);
}
