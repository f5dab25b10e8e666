import { createHash } from 'node:crypto';
import { cbor } from './cbor.js';
import { pickle5 } from './pickle5.js';
import type { PythonValue } from './python-value.js';

/** A hash function of vLLM: 32 bytes for a Python value. LMCache borrows them. */
export type PythonDigest = (value: PythonValue) => Uint8Array;

/** vLLM's `sha256`. */
export const sha256Pickle: PythonDigest = (value) => sha256(pickle5(value));

/** vLLM's `sha256_cbor`. */
export const sha256Cbor: PythonDigest = (value) => sha256(cbor(value));

/** What the chain of hashes starts from: vLLM's `NONE_HASH`, for PYTHONHASHSEED as given. */
export function noneHash(digest: PythonDigest, seed: string | undefined): Uint8Array {
  return digest({ text: seed ?? 'vllm-none-hash' });
}

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}
