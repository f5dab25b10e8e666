import { checkFields, checkInteger, checkPattern, checkText } from './check.js';
import type { PrefixHash } from './hash-chain.js';

const SALT = /^[^@/\\\0]{0,128}$/u;

/** What LMCache's multiprocess server names an object by: its `ObjectKey`. */
export interface ObjectKeyParts {
  /** As the engine was started with; without `@`. */
  readonly model: string;
  /** From `prefixHashes` with `lmcache_mp_blake3` or a `vllm_` algorithm. */
  readonly hash: PrefixHash;
  /** From `kvRank`. */
  readonly kvRank: number;
  /** Index of the object group, for models whose layers differ in kind. Default 0. */
  readonly objectGroup?: number;
  /** The tenant's salt: up to 128 characters, none of `@`, `/`, `\` and NUL. Default: none. */
  readonly cacheSalt?: string;
}

/** Where one worker stands among all workers and among those of its machine. */
export interface KvRankParts {
  /** Workers in all, 1 to 255. */
  readonly worldSize: number;
  readonly globalRank: number;
  /** Workers on the same machine, 1 to 255. */
  readonly localWorldSize: number;
  readonly localRank: number;
}

/** The object's name in S3, Redis and Valkey. Throws a TypeError or RangeError for a wrong part. */
export function objectKey(parts: ObjectKeyParts): string {
  checkParts(parts);
  return join(parts, parts.model, '');
}

/** The object's file name in LMCache's `fs` adapter. Throws as `objectKey` does. */
export function objectFileName(parts: ObjectKeyParts): string {
  checkParts(parts);
  return `${join(parts, parts.model.replaceAll('/', '-SEP-'), '0x')}.data`;
}

/** `ObjectKey.ComputeKVRank`: the four numbers as one of 32 bits, a byte each. Throws a TypeError or RangeError for a wrong part. */
export function kvRank(parts: KvRankParts): number {
  checkFields('parts', parts, ['worldSize', 'globalRank', 'localWorldSize', 'localRank']);
  const { worldSize, globalRank, localWorldSize, localRank } = parts;
  checkInteger('worldSize', worldSize, 1, 0xff);
  checkInteger('globalRank', globalRank, 0, worldSize - 1);
  checkInteger('localWorldSize', localWorldSize, 1, 0xff);
  checkInteger('localRank', localRank, 0, localWorldSize - 1);
  return ((worldSize << 24) | (globalRank << 16) | (localWorldSize << 8) | localRank) >>> 0;
}

function checkParts(parts: ObjectKeyParts): void {
  checkFields('parts', parts, ['model', 'hash', 'kvRank', 'objectGroup', 'cacheSalt']);
  const { model, hash, kvRank: rank, objectGroup = 0, cacheSalt = '' } = parts;
  checkText('model', model);
  checkPattern('model', model, /^[^@]*$/, 'without @');
  checkPattern('hash', hash, /^([0-9a-f]{2})+$/, 'lower-case hex of whole bytes');
  checkInteger('kvRank', rank, 0, 0xffffffff);
  checkInteger('objectGroup', objectGroup, 0, Number.MAX_SAFE_INTEGER);
  checkText('cacheSalt', cacheSalt);
  checkPattern('cacheSalt', cacheSalt, SALT, 'at most 128 characters without @, /, \\ and NUL');
}

function join(parts: ObjectKeyParts, model: string, rankPrefix: string): string {
  const { hash, kvRank: rank, objectGroup = 0, cacheSalt = '' } = parts;
  const group = objectGroup.toString(16);
  const fields = [model, rankPrefix + rank.toString(16).padStart(8, '0'), group, hash];
  return (cacheSalt === '' ? fields : [...fields, cacheSalt]).join('@');
}
