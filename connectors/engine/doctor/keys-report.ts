// How this node names chunks: the same on two nodes if and only if they find each other's. Pure.
import { kvRank, objectKey } from '../../../lib/key/object-key.js';
import { lmcacheKey } from '../../../lib/key/lmcache-key.js';
import { prefixHashes, type PrefixHashAlgorithm } from '../../../lib/key/prefix-hash.js';
import { vllmGroupKey } from '../../../lib/key/vllm-group-key.js';
import { namespaceDigest, type Namespace } from '../../../lib/store/namespace.js';

/** What one node would name things, as JSON has it. */
export interface KeysReport {
  readonly report: typeof REPORT;
  readonly versions: { readonly kvreel: string; readonly node: string };
  /** PYTHONHASHSEED here; null where it is not set. */
  readonly python_hash_seed: string | null;
  /** Prefix hashes of the same tokens by each algorithm; null where no two processes agree. */
  readonly hashes: Readonly<Record<string, readonly string[] | null>>;
  readonly names: Readonly<Record<string, string>>;
  /** Digest and parts of the space that was asked for; null if none was. Of a salt only that there is one. */
  readonly space: Readonly<Record<string, unknown>> | null;
}

/** One thing that two nodes name differently. */
export interface KeysDifference {
  /** As in the report, parts with dots between them. */
  readonly field: string;
  readonly here: unknown;
  readonly there: unknown;
}

export const REPORT = 'kvreel keys 1';

// Which algorithms mix PYTHONHASHSEED in.
const IS_SEEDED: Readonly<Record<PrefixHashAlgorithm, boolean>> = {
  vllm_sha256: true,
  vllm_sha256_cbor: true,
  lmcache_builtin: true,
  lmcache_builtin_without_vllm: false,
  lmcache_sha256: true,
  lmcache_sha256_cbor: true,
  lmcache_mp_blake3: false,
  sglang: false,
};
const CHUNK_TOKENS = 16;
// Two chunks and a half, ids of one to three bytes.
const TOKENS = Uint32Array.from({ length: 40 }, (_, i) => (i * i * 131 + i) % 200_000);
const SEED_OF_PYTHON = /^\d{1,10}$/;
const MAX_SEED = 0xffffffff;

/** Makes the report of this node. `seed` is its PYTHONHASHSEED. Throws a TypeError or RangeError for a space that cannot be. */
export function keysReport(versions: KeysReport['versions'], seed: string | undefined, space?: Namespace): KeysReport {
  const algorithms = Object.keys(IS_SEEDED) as PrefixHashAlgorithm[];
  const hashes = Object.fromEntries(algorithms.map((algorithm) => [algorithm, hashesOf(algorithm, seed)]));
  return { report: REPORT, versions, python_hash_seed: seed ?? null, hashes, names: namesOf(hashes.lmcache_mp_blake3?.[0] ?? ''), space: space ? spaceOf(space) : null };
}

/** What an operator should know of the seed. */
export function seedWarning(seed: string | undefined): string | undefined {
  if (seed === undefined) {
    return 'PYTHONHASHSEED is not set: LMCache beside vLLM hashes by Python with its default algorithm (builtin), and no two processes agree. Set it to the same number for every engine process of every node, as in PYTHONHASHSEED=0, or use sha256_cbor';
  }
  if (!isNumber(seed)) return 'PYTHONHASHSEED is no number from 0 to 4294967295: no two processes agree on hashes of LMCache’s default algorithm (builtin)';
  return undefined;
}

/** What two reports say differently of keys; versions may differ. */
export function compareKeys(here: KeysReport, there: KeysReport): KeysDifference[] {
  const fields: readonly (keyof KeysReport)[] = ['python_hash_seed', 'hashes', 'names', 'space'];
  const differences = fields.flatMap((field) => differencesOf(field, here[field], there[field]));
  const space = differences.filter(({ field }) => field.startsWith('space.'));
  if (space.length !== 1 || space[0]?.field !== 'space.digest' || here.space?.is_salted !== true) return differences;
  // The digest alone: what it is made of beside what the reports show.
  return differences.map((difference) => (difference.field === 'space.digest' ? { ...difference, field: 'space.salt' } : difference));
}

function hashesOf(algorithm: PrefixHashAlgorithm, seed: string | undefined): readonly string[] | null {
  if (algorithm === 'lmcache_builtin' && (seed === undefined || !isNumber(seed))) return null;
  return prefixHashes(TOKENS, { algorithm, chunkTokens: CHUNK_TOKENS, ...(IS_SEEDED[algorithm] && seed !== undefined && { seed }) });
}

function isNumber(seed: string): boolean {
  return SEED_OF_PYTHON.test(seed) && Number(seed) <= MAX_SEED;
}

// One key of each engine, with parts that tell writers apart.
function namesOf(hash: string): Record<string, string> {
  const model = 'org/model.v1';
  const rank = kvRank({ worldSize: 2, globalRank: 1, localWorldSize: 2, localRank: 1 });
  return {
    lmcache_key: lmcacheKey({ model, worldSize: 2, workerId: 1, hash: '-274654dcc82ea3f3', dtype: 'bfloat16', tags: [['user', 'alice']] }),
    lmcache_object_key: objectKey({ model, hash, kvRank: rank, objectGroup: 17, cacheSalt: 'tenant' }),
    vllm_group_key: vllmGroupKey(hash, 1),
    namespace: namespaceDigest({ model, geometry: { order: 'fused', dtype: 'bf16', layers: 30, kvHeads: 3, headDim: 64, rope: { theta: 100_000, style: 'half' } }, variant: 'v', adapter: 'a', salt: 's', rank: { index: 1, of: 2 } }),
  };
}

function spaceOf(space: Namespace): Record<string, unknown> {
  const { model, geometry, variant = null, adapter = null, salt, rank = null, quality = 'exact' } = space;
  const { order, dtype, layers, kvHeads, headDim, blockTokens = null, rope } = geometry;
  const rotation = rope ? { theta: rope.theta, style: rope.style, rotary_dims: rope.rotaryDims ?? headDim } : null;
  const parts = { order, dtype, layers, kv_heads: kvHeads, head_dim: headDim, block_tokens: blockTokens, rope: rotation };
  return { digest: namespaceDigest(space), model, geometry: parts, variant, adapter, is_salted: salt !== undefined, rank, quality };
}

function differencesOf(field: string, here: unknown, there: unknown): KeysDifference[] {
  if (isObject(here) && isObject(there)) {
    const names = [...new Set([...Object.keys(here), ...Object.keys(there)])];
    return names.flatMap((name) => differencesOf(`${field}.${name}`, here[name], there[name]));
  }
  return JSON.stringify(here ?? null) === JSON.stringify(there ?? null) ? [] : [{ field, here: here ?? null, there: there ?? null }];
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
