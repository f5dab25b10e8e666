import { Buffer } from 'node:buffer';
import { blake3 } from '@noble/hashes/blake3';
import { ByteWriter } from './byte-writer.js';
import type { HashChain } from './hash-chain.js';

/** The multiprocess server hashes (0, (0,), None) once: a 64-bit zero for the parent, a 32-bit one for the token. */
const NONE_HASH_INPUT = new Uint8Array(12);

/** LMCache's multiprocess server: blake3(parent digest, then each token id as 32 bits, big-endian). */
export function lmcacheMpBlake3Chain(): HashChain {
  let parent = blake3(NONE_HASH_INPUT);
  return (tokens) => {
    const out = new ByteWriter();
    out.bytes(parent);
    for (const token of tokens) out.u32(token, false);
    parent = blake3(out.written());
    return Buffer.from(parent).toString('hex');
  };
}
