import { checkFields, checkInteger, checkText } from './check.js';

/**
 * Whose hash it is, and which. Held to vLLM 0.32.0, LMCache 0.5.6 and SGLang 0.5.23.
 *
 * - `vllm_sha256`: vLLM's block hash with its default `--prefix-caching-hash-algo sha256` (pickled). 64 hex digits.
 * - `vllm_sha256_cbor`: the same with `sha256_cbor`. 64 hex digits. Without `extra` these two are also what LMCache's
 *   multiprocess server computes with `--hash-algorithm sha256` or `sha256_cbor` where vLLM is installed.
 * - `lmcache_builtin`: LMCache in the engine's process with its default `pre_caching_hash_algorithm`, beside vLLM:
 *   Python's own hash(). Signed hex, not padded: `-274654dcc82ea3f3`.
 * - `lmcache_builtin_without_vllm`: the same where vLLM is not installed. LMCache then falls back to it from every
 *   other algorithm too, with a warning only.
 * - `lmcache_sha256`, `lmcache_sha256_cbor`: the same process with these algorithms; the first 64 bits of the digest. Hex,
 *   not padded.
 * - `lmcache_mp_blake3`: LMCache's multiprocess server with its default `--hash-algorithm`. 64 hex digits.
 * - `sglang`: SGLang's page hash, as HiCache names pages in storage. 64 hex digits.
 */
export type PrefixHashAlgorithm =
  | 'vllm_sha256'
  | 'vllm_sha256_cbor'
  | 'lmcache_builtin'
  | 'lmcache_builtin_without_vllm'
  | 'lmcache_sha256'
  | 'lmcache_sha256_cbor'
  | 'lmcache_mp_blake3'
  | 'sglang';

/** What vLLM and SGLang mix into their hashes beside tokens. LMCache mixes in nothing. */
export interface PrefixHashExtra {
  /** vLLM: the adapter of the request, as named and located when it was loaded. */
  readonly lora?: { readonly name: string; readonly path: string };
  /** vLLM, SGLang: the tenant's salt. vLLM takes an empty one for none, so there it is refused. */
  readonly cacheSalt?: string;
  /** vLLM: the images, videos and sounds of the request, in order of offset. */
  readonly multimodal?: readonly MultimodalInput[];
  /** SGLang: `extra_key` of the request. */
  readonly extraKey?: string;
}

/** One multimodal input: the placeholder tokens that it fills. */
export interface MultimodalInput {
  /** vLLM's identifier of the content, `mm_hash` unless the request named it. */
  readonly identifier: string;
  /** Index of its first placeholder token. */
  readonly offset: number;
  /** Its placeholder tokens, 1 or more. */
  readonly length: number;
}

/** Options of `prefixHashes`. Each must be what the engine runs with, or its hashes never match. */
export interface PrefixHashOptions {
  /** Default `vllm_sha256_cbor`: needs no Python, and is the same in every process. */
  readonly algorithm?: PrefixHashAlgorithm;
  /** Tokens a hash covers: vLLM's block size, LMCache's chunk size, SGLang's page size. 1 to 1,048,576, default 256. */
  readonly chunkTokens?: number;
  /**
   * PYTHONHASHSEED of the engine, as text where the spelling matters (`"007"`). Default: not set, which only
   * `lmcache_builtin` cannot do with, as Python then takes a random one. Refused by the algorithms that do not read it.
   */
  readonly seed?: string | number;
  /** What the engine mixes in beside the tokens. Default: nothing. Parts that the algorithm does not read are refused. */
  readonly extra?: PrefixHashExtra;
  /** LMCache's `save_unfull_chunk`: also hash what is left after the last complete chunk. Only `lmcache_` in process. Default false. */
  readonly partial?: boolean;
}

/** `PrefixHashOptions` after the check. */
export interface CheckedOptions {
  readonly algorithm: PrefixHashAlgorithm;
  readonly chunkTokens: number;
  readonly seed: string | undefined;
  readonly extra: PrefixHashExtra;
  readonly partial: boolean;
}

const DEFAULTS = { algorithm: 'vllm_sha256_cbor', chunkTokens: 256, extra: {}, partial: false } as const;
const MAX_CHUNK_TOKENS = 2 ** 20;
const MAX_UINT32 = 0xffffffff;

interface Reads {
  readonly seed: boolean;
  readonly extra: readonly (keyof PrefixHashExtra)[];
  readonly partial: boolean;
}

const VLLM: Reads = { seed: true, extra: ['lora', 'cacheSalt', 'multimodal'], partial: false };
const LMCACHE: Reads = { seed: true, extra: [], partial: true };

/** Which options an algorithm reads. */
const READS: Readonly<Record<PrefixHashAlgorithm, Reads>> = {
  vllm_sha256: VLLM,
  vllm_sha256_cbor: VLLM,
  lmcache_builtin: LMCACHE,
  lmcache_builtin_without_vllm: { ...LMCACHE, seed: false },
  lmcache_sha256: LMCACHE,
  lmcache_sha256_cbor: LMCACHE,
  lmcache_mp_blake3: { seed: false, extra: [], partial: false },
  sglang: { seed: false, extra: ['extraKey', 'cacheSalt'], partial: false },
};

/** Throws a TypeError or RangeError at the first field that is not as documented. */
export function checkPrefixHashOptions(options: PrefixHashOptions): CheckedOptions {
  checkFields('options', options, ['algorithm', 'chunkTokens', 'seed', 'extra', 'partial']);
  const { algorithm, chunkTokens, seed, extra, partial } = { ...DEFAULTS, ...options };
  if (!Object.hasOwn(READS, algorithm)) {
    throw new RangeError(`expected \`algorithm\` to be one of ${Object.keys(READS).join(', ')}, got ${String(algorithm)}`);
  }
  checkInteger('chunkTokens', chunkTokens, 1, MAX_CHUNK_TOKENS);
  checkExtra(algorithm, extra);
  if (typeof partial !== 'boolean') throw new TypeError(`expected \`partial\` to be a boolean, got ${typeof partial}`);
  if (partial && !READS[algorithm].partial) {
    throw new RangeError(`expected \`partial\` to be false with algorithm ${algorithm}, which hashes complete chunks only, got true`);
  }
  return { algorithm, chunkTokens, seed: checkSeed(algorithm, seed), extra, partial };
}

function checkSeed(algorithm: PrefixHashAlgorithm, seed: string | number | undefined): string | undefined {
  if (seed === undefined) {
    if (algorithm !== 'lmcache_builtin') return undefined;
    throw new TypeError('expected `seed` to be the PYTHONHASHSEED of the engine, got none: without it Python hashes differently in each process');
  }
  if (!READS[algorithm].seed) throw new RangeError(`expected no \`seed\` with algorithm ${algorithm}, which does not read it`);
  if (typeof seed === 'number') checkInteger('seed', seed, 0, MAX_UINT32);
  else checkText('seed', seed);
  const text = String(seed);
  if (algorithm === 'lmcache_builtin' && !(/^\d+$/.test(text) && Number(text) <= MAX_UINT32)) {
    throw new RangeError(`expected \`seed\` to be an integer from 0 to ${MAX_UINT32} with algorithm ${algorithm}, got ${text}`);
  }
  return text;
}

function checkExtra(algorithm: PrefixHashAlgorithm, extra: PrefixHashExtra): void {
  checkFields('extra', extra, ['lora', 'cacheSalt', 'multimodal', 'extraKey']);
  const { lora, cacheSalt, multimodal, extraKey } = extra;
  for (const [name, value] of Object.entries(extra)) {
    const isRead = READS[algorithm].extra.some((read) => read === name);
    if (value !== undefined && !isRead) throw new RangeError(`expected no \`extra.${name}\` with algorithm ${algorithm}, which does not read it`);
  }
  if (lora !== undefined) {
    checkFields('extra.lora', lora, ['name', 'path']);
    checkText('extra.lora.name', lora.name);
    checkText('extra.lora.path', lora.path);
  }
  if (cacheSalt !== undefined) checkText('extra.cacheSalt', cacheSalt);
  if (cacheSalt === '' && algorithm !== 'sglang') throw new RangeError('expected `extra.cacheSalt` to hold a character, got an empty text');
  if (extraKey !== undefined) checkText('extra.extraKey', extraKey);
  if (multimodal !== undefined) checkMultimodal(multimodal);
}

function checkMultimodal(inputs: readonly MultimodalInput[]): void {
  if (!Array.isArray(inputs)) throw new TypeError(`expected \`extra.multimodal\` to be an array, got ${typeof inputs}`);
  let end = 0;
  inputs.forEach((input, index) => {
    const name = `extra.multimodal[${index}]`;
    checkFields(name, input, ['identifier', 'offset', 'length']);
    checkText(`${name}.identifier`, input.identifier);
    checkInteger(`${name}.offset`, input.offset, end, 0x7fffffff);
    checkInteger(`${name}.length`, input.length, 1, 0x7fffffff);
    end = input.offset + input.length;
  });
}
