import { checkFields, checkInteger, checkPattern, checkText } from './check.js';
import type { PrefixHash } from './hash-chain.js';

const DTYPES = [
  'half',
  'bfloat16',
  'float',
  'double',
  'int8',
  'uint8',
  'int16',
  'int32',
  'int64',
  'bool',
  'fp8_e4m3fn',
  'fp8_e4m3fnuz',
  'fp8_e5m2',
  'fp8_e5m2fnuz',
] as const;

/** LMCache's own names of element types; vLLM's fp8 caches are `uint8` there. */
export type LmcacheDtype = (typeof DTYPES)[number];

/** What LMCache in the engine's process names a chunk by: its `CacheEngineKey`. */
export interface LmcacheKeyParts {
  /** As the engine was started with, slashes and all. */
  readonly model: string;
  /** Workers of the engine; 1 for MLA models with `save_only_first_rank`. */
  readonly worldSize: number;
  readonly workerId: number;
  /** From `prefixHashes` with an `lmcache_` algorithm. */
  readonly hash: PrefixHash;
  readonly dtype: LmcacheDtype;
  /** `lmcache.tag.*` of the request, without that prefix. In the order the request gave them: the key follows it. */
  readonly tags?: readonly (readonly [name: string, value: string])[];
  /** Index of the layer where each is stored alone (`use_layerwise`). */
  readonly layer?: number;
}

/** `CacheEngineKey.to_string()`, or `LayerCacheEngineKey`'s with `layer`. Throws a TypeError or RangeError for a wrong part. */
export function lmcacheKey(parts: LmcacheKeyParts): string {
  checkFields('parts', parts, ['model', 'worldSize', 'workerId', 'hash', 'dtype', 'tags', 'layer']);
  const { model, worldSize, workerId, hash, dtype, tags = [], layer } = parts;
  checkText('model', model);
  checkInteger('worldSize', worldSize, 1, Number.MAX_SAFE_INTEGER);
  checkInteger('workerId', workerId, 0, Number.MAX_SAFE_INTEGER);
  checkPattern('hash', hash, /^(0|-?[1-9a-f][0-9a-f]*)$/, 'lower-case hex without padding');
  if (!DTYPES.includes(dtype)) throw new RangeError(`expected \`dtype\` to be one of ${DTYPES.join(', ')}, got ${String(dtype)}`);
  if (layer !== undefined) checkInteger('layer', layer, 0, Number.MAX_SAFE_INTEGER);
  for (const [name, value] of tags) {
    checkText('tags', name);
    checkText('tags', value);
  }
  const fields = [model, worldSize, workerId, hash, dtype];
  if (layer !== undefined) fields.push(layer);
  return [...fields, ...tags.map(([name, value]) => `${name}%${value}`)].join('@');
}
