// Values whose bytes follow from key and version, so that whatever a store returns can be compared with what was ever put.
import { randomSource } from '../lib/tensors.js';

const LARGEST_BYTES = 1 << 20;
const PAD_BYTES = 4 << 20;
const PAD = new Uint8Array(PAD_BYTES + LARGEST_BYTES);
const random = randomSource(20_250_101);
for (let i = 0; i < PAD.length; i++) PAD[i] = 256 * random();

/** A number in [0, 1) that follows from the others. */
function drawn(key: number, version: number, purpose: number): number {
  return randomSource((key * 7919 + version) * 31 + purpose)();
}

/** Most values have up to 8 KiB, some up to 64 KiB, and one in a hundred up to 1 MiB. */
export function bytesOf(key: number, version: number): number {
  const kind = drawn(key, version, 1);
  const largest = kind < 0.01 ? LARGEST_BYTES : kind < 0.1 ? LARGEST_BYTES / 16 : LARGEST_BYTES / 128;
  return Math.floor(largest * drawn(key, version, 2));
}

/** Random bytes that belong to this version of this key alone. Not to be written to. */
export function dataOf(key: number, version: number, bytes: number): Uint8Array {
  const at = Math.floor(PAD_BYTES * drawn(key, version, 3));
  return PAD.subarray(at, at + bytes);
}

/** The value of this version of this key. Not to be written to. */
export function valueOf(key: number, version: number): Uint8Array {
  return dataOf(key, version, bytesOf(key, version));
}
