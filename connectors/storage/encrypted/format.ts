// The bytes of an encrypted value, as docs/format-encrypted.md tells: a header of fixed size, then segments of fixed size. So
// where a byte of the value lies, and how long the value is, can be told without reading anything.
import { KvError } from '../../../lib/errors.js';

export const HEADER_BYTES = 72;
export const SALT_BYTES = 32;
export const KEY_CHECK_BYTES = 8;
export const TAG_BYTES = 16;

/**
 * Value bytes of one segment, all but the last. Measured for 64 KiB to 1 MiB: 64 KiB costs half as much CPU again (a cipher is set
 * up for each), more than 128 KiB gains nothing, and a range read decrypts up to one segment too many at each end.
 */
export const SEGMENT_BYTES = 128 * 1024;

/** A whole segment with its tag. */
export const SEALED_BYTES = SEGMENT_BYTES + TAG_BYTES;

const MAGIC = Buffer.from('KVRE', 'latin1');
const VERSION = 1;
const VALUE_BYTES_AT = 8;
const KEY_ID_AT = 16;
const SALT_AT = 32;
const KEY_CHECK_AT = SALT_AT + SALT_BYTES;

const KEY_ID = /^[A-Za-z0-9._-]{1,16}$/;

/** Far beyond any value, and small enough that sums of sizes stay exact. */
const MAX_VALUE_BYTES = 2 ** 48;

/** What the header of an encrypted value says. */
export interface Header {
  readonly keyId: string;
  readonly valueBytes: number;
  /** 32 random bytes, new for each put. */
  readonly salt: Uint8Array;
  /** 8 bytes that the key gives, so that another key under the same id is not taken for damage. */
  readonly keyCheck: Uint8Array;
}

/** Whether `id` can name a key: 1 to 16 letters, digits, dots, dashes or underscores. */
export function isKeyId(id: string): boolean {
  return KEY_ID.test(id);
}

/** Number of segments; an empty value has one, whose tag proves that it is empty. */
export function segmentCount(valueBytes: number): number {
  return Math.max(1, Math.ceil(valueBytes / SEGMENT_BYTES));
}

/** Where segment `index` begins in the stored bytes. */
export function segmentOffset(index: number): number {
  return HEADER_BYTES + index * SEALED_BYTES;
}

/** Bytes that a value takes when it is stored. */
export function storedBytes(valueBytes: number): number {
  return HEADER_BYTES + valueBytes + segmentCount(valueBytes) * TAG_BYTES;
}

/** The inverse of `storedBytes`; 0 for a size that no encrypted value has. */
export function valueBytesOf(stored: number): number {
  const body = stored - HEADER_BYTES;
  const segments = Math.max(1, Math.ceil(body / SEALED_BYTES));
  return Math.max(0, body - segments * TAG_BYTES);
}

/** A header's bytes. */
export function packHeader({ keyId, valueBytes, salt, keyCheck }: Header): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt16LE(VERSION, MAGIC.byteLength);
  bytes.writeBigUInt64LE(BigInt(valueBytes), VALUE_BYTES_AT);
  bytes.write(keyId, KEY_ID_AT, 'latin1');
  bytes.set(salt, SALT_AT);
  bytes.set(keyCheck, KEY_CHECK_AT);
  return bytes;
}

/**
 * Reads the header at the start of `stored`, whose word for anything is to be taken only once a segment has proved it. Throws
 * KV_CORRUPT_OBJECT or KV_UNSUPPORTED_VERSION.
 */
export function parseHeader(stored: Uint8Array, key: string): Header {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  if (bytes.byteLength < HEADER_BYTES || !MAGIC.equals(bytes.subarray(0, MAGIC.byteLength))) {
    throw corrupt(key, 'is no encrypted value');
  }
  const version = bytes.readUInt16LE(MAGIC.byteLength);
  if (version !== VERSION) {
    throw new KvError('KV_UNSUPPORTED_VERSION', `the value at "${key}" is encrypted in version ${version} of the format, this reads version ${VERSION}; update kvreel or delete the value`);
  }
  const valueBytes = Number(bytes.readBigUInt64LE(VALUE_BYTES_AT));
  if (valueBytes > MAX_VALUE_BYTES) throw corrupt(key, 'has a length that cannot be');
  const salt = new Uint8Array(bytes.subarray(SALT_AT, KEY_CHECK_AT));
  const keyCheck = new Uint8Array(bytes.subarray(KEY_CHECK_AT, HEADER_BYTES));
  const header = { keyId: readKeyId(bytes), valueBytes, salt, keyCheck };
  // Also what is reserved, and what is left of the key id's field, is as it was written.
  if (!isKeyId(header.keyId) || !packHeader(header).equals(bytes.subarray(0, HEADER_BYTES))) throw corrupt(key, 'has a header that cannot be');
  return header;
}

/** What to throw for a value that cannot be what was put under `key`. */
export function corrupt(key: string, finding: string): KvError {
  return new KvError('KV_CORRUPT_OBJECT', `the value at "${key}" ${finding}; delete it or put it again`);
}

function readKeyId(bytes: Buffer): string {
  const field = bytes.subarray(KEY_ID_AT, SALT_AT);
  const end = field.indexOf(0);
  return field.toString('latin1', 0, end === -1 ? field.byteLength : end);
}
