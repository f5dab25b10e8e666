import { Buffer } from 'node:buffer';
import type { HashChain } from './hash-chain.js';
import type { CheckedOptions, MultimodalInput, PrefixHashExtra } from './prefix-hash-options.js';
import type { PythonValue } from './python-value.js';
import { noneHash, type PythonDigest } from './sha256.js';

// One object each, as in vLLM's code: pickle writes the second use of a tag in one block as a reference to the first.
const LORA = { text: 'lora' };
const MULTIMODAL = { text: 'mm' };
const CACHE_SALT = { text: 'cache_salt' };

/** vLLM's block hashes: digest((parent digest, token ids, extra keys or None)). */
export function vllmChain(digest: PythonDigest, { seed, extra }: CheckedOptions): HashChain {
  let parent = noneHash(digest, seed);
  return (tokens, start) => {
    parent = digest([parent, tokens, extraKeys(extra, start, start + tokens.length)]);
    return Buffer.from(parent).toString('hex');
  };
}

function extraKeys(extra: PrefixHashExtra, start: number, end: number): PythonValue {
  const keys: PythonValue[] = [];
  const { lora, multimodal = [], cacheSalt } = extra;
  if (lora !== undefined) keys.push([LORA, { text: lora.name }, { text: lora.path }]);
  for (const input of multimodal.filter((candidate) => overlaps(candidate, start, end))) {
    keys.push([MULTIMODAL, { text: input.identifier }, input.offset - start]);
  }
  if (cacheSalt !== undefined && start === 0) keys.push([CACHE_SALT, { text: cacheSalt }]);
  return keys.length === 0 ? null : keys;
}

function overlaps(input: MultimodalInput, start: number, end: number): boolean {
  return input.offset < end && start < input.offset + input.length;
}
