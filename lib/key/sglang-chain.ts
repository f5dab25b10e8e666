import { createHash, type Hash } from 'node:crypto';
import { Buffer } from 'node:buffer';
import { ByteWriter } from './byte-writer.js';
import type { HashChain } from './hash-chain.js';
import type { CheckedOptions, PrefixHashExtra } from './prefix-hash-options.js';

/** SGLang's page hashes: sha256(parent digest, then each token id as 32 bits, little-endian). The first page may have no parent. */
export function sglangChain({ extra }: CheckedOptions): HashChain {
  let parent = namespaceSeed(extra);
  return (tokens) => {
    const out = new ByteWriter();
    out.bytes(parent);
    for (const token of tokens) out.u32(token, true);
    parent = createHash('sha256').update(out.written()).digest();
    return parent.toString('hex');
  };
}

function namespaceSeed({ extraKey, cacheSalt }: PrefixHashExtra): Buffer {
  if (extraKey === undefined && cacheSalt === undefined) return Buffer.alloc(0);
  const hash = createHash('sha256').update('sglang-cache-namespace-v1');
  addPart(hash, extraKey);
  addPart(hash, cacheSalt);
  return hash.digest();
}

/** Presence and length are hashed too, so that parts cannot be shifted into each other. */
function addPart(hash: Hash, part: string | undefined): void {
  const out = new ByteWriter();
  out.u8(part === undefined ? 0 : 1);
  if (part !== undefined) {
    const text = Buffer.from(part);
    out.u64(BigInt(text.length), true);
    out.bytes(text);
  }
  hash.update(out.written());
}
