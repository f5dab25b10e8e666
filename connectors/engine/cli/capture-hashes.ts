// The prefix hashes of a capture. A capture from the start of its sequence has the hashes that vLLM gives the same tokens. What has no
// hash there, because the tokens before it are unknown or its last chunk is not complete, gets one from a salt of its own.
import { prefixHashes, type PrefixHash } from '../../../lib/key/prefix-hash.js';

/** One chunk of a capture: tokens [begin, end), and the hash of all tokens up to its end. */
export interface CaptureChunk {
  readonly hash: PrefixHash;
  readonly begin: number;
  readonly end: number;
}

/** The chunks of a capture whose first token stands at `start` of its sequence; the last one may be short. */
export function captureChunks(tokenIds: Int32Array, start: number, chunkTokens: number): CaptureChunk[] {
  const salt = start === 0 ? undefined : `kvreel starts at ${start}`;
  const complete = hashesOf(tokenIds, chunkTokens, salt);
  const chunks = complete.map((hash, i) => ({ hash, begin: i * chunkTokens, end: (i + 1) * chunkTokens }));
  const begin = chunks.at(-1)?.end ?? 0;
  const tail = tokenIds.subarray(begin);
  if (tail.length === 0) return chunks;
  const hashes = hashesOf(tail, tail.length, ['kvreel tail', salt, complete.at(-1)].filter((part) => part !== undefined).join(' '));
  return [...chunks, ...hashes.map((hash) => ({ hash, begin, end: tokenIds.length }))];
}

function hashesOf(tokenIds: Int32Array, chunkTokens: number, cacheSalt: string | undefined): PrefixHash[] {
  return prefixHashes(tokenIds, { chunkTokens, ...(cacheSalt !== undefined && { extra: { cacheSalt } }) });
}
