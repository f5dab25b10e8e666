import type { HashChain, PrefixHash } from './hash-chain.js';
import { lmcacheBuiltinChain, lmcacheBuiltinChainWithoutVllm, lmcacheDigestChain } from './lmcache-chain.js';
import { lmcacheMpBlake3Chain } from './lmcache-mp-chain.js';
import { checkPrefixHashOptions, type CheckedOptions, type PrefixHashAlgorithm, type PrefixHashOptions } from './prefix-hash-options.js';
import { sglangChain } from './sglang-chain.js';
import { sha256Cbor, sha256Pickle } from './sha256.js';
import { vllmChain } from './vllm-chain.js';

export type { PrefixHash } from './hash-chain.js';
export type { MultimodalInput, PrefixHashAlgorithm, PrefixHashExtra, PrefixHashOptions } from './prefix-hash-options.js';

const CHAINS: Record<PrefixHashAlgorithm, (options: CheckedOptions) => HashChain> = {
  vllm_sha256: (options) => vllmChain(sha256Pickle, options),
  vllm_sha256_cbor: (options) => vllmChain(sha256Cbor, options),
  lmcache_builtin: lmcacheBuiltinChain,
  lmcache_builtin_without_vllm: lmcacheBuiltinChainWithoutVllm,
  lmcache_sha256: (options) => lmcacheDigestChain(sha256Pickle, options),
  lmcache_sha256_cbor: (options) => lmcacheDigestChain(sha256Cbor, options),
  lmcache_mp_blake3: lmcacheMpBlake3Chain,
  sglang: sglangChain,
};

/**
 * The prefix hashes of a sequence, one a complete chunk in order: each names all tokens up to its chunk's end. They are
 * byte-equal to the engine's own. Throws a TypeError or RangeError for a negative token id or a wrong option.
 */
export function prefixHashes(tokens: Uint32Array | Int32Array, options: PrefixHashOptions = {}): PrefixHash[] {
  const ids = checkTokens(tokens);
  const checked = checkPrefixHashOptions(options);
  const { chunkTokens, partial } = checked;
  const chain = CHAINS[checked.algorithm](checked);
  const end = partial ? ids.length : ids.length - (ids.length % chunkTokens);
  const hashes: PrefixHash[] = [];
  for (let start = 0; start < end; start += chunkTokens) {
    hashes.push(chain(ids.subarray(start, start + chunkTokens), start));
  }
  return hashes;
}

function checkTokens(tokens: Uint32Array | Int32Array): Uint32Array {
  if (tokens instanceof Uint32Array) return tokens;
  if (!(tokens instanceof Int32Array)) throw new TypeError(`expected \`tokens\` to be a Uint32Array or Int32Array, got ${typeof tokens}`);
  const index = tokens.findIndex((token) => token < 0);
  if (index !== -1) throw new RangeError(`expected \`tokens\` to hold no negative id, got ${tokens[index]} at ${index}`);
  return new Uint32Array(tokens.buffer, tokens.byteOffset, tokens.length);
}
