import { checkInteger, checkPattern } from './check.js';
import type { PrefixHash } from './hash-chain.js';

/** vLLM's name, in hex, of a block in one KV cache group: the block hash, then the group's index as 32 bits. Throws a TypeError or RangeError for a wrong part. */
export function vllmGroupKey(hash: PrefixHash, group: number): string {
  checkPattern('hash', hash, /^[0-9a-f]{64}$/, '64 lower-case hex digits');
  checkInteger('group', group, 0, 0xffffffff);
  return hash + group.toString(16).padStart(8, '0');
}
