import { Buffer } from 'node:buffer';
import { hashInt, hashText, hashTuple, textHashKey } from './cpython-hash.js';
import type { HashChain } from './hash-chain.js';
import type { CheckedOptions } from './prefix-hash-options.js';
import { noneHash, type PythonDigest } from './sha256.js';

/** LMCache in the engine's process: digest((parent int, token ids, ())), of which the first 64 bits are kept. */
export function lmcacheDigestChain(digest: PythonDigest, { seed }: CheckedOptions): HashChain {
  let parent = fold(noneHash(digest, seed));
  return (tokens) => {
    parent = fold(digest([parent, tokens, []]));
    return parent.toString(16);
  };
}

/** The same with Python's hash(), beside vLLM: the seed is hashed as text, and keys that hash. */
export function lmcacheBuiltinChain({ seed = '' }: CheckedOptions): HashChain {
  return builtinChain(hashText(seed, textHashKey(Number(seed))));
}

/** The same without vLLM: the chain starts from 0. */
export function lmcacheBuiltinChainWithoutVllm(): HashChain {
  return builtinChain(0n);
}

function builtinChain(noneHashValue: bigint): HashChain {
  const emptyTuple = hashTuple([]);
  let parent = noneHashValue;
  return (tokens) => {
    const ids = hashTuple(Array.from(tokens, BigInt));
    parent = hashTuple([hashInt(parent), ids, emptyTuple]);
    return parent.toString(16);
  };
}

function fold(digest: Uint8Array): bigint {
  return Buffer.from(digest).readBigUInt64BE(0);
}
