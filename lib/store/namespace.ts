// What tells two caches of the same tokens apart. The digest is part of every storage key, so a change here orphans what is stored.
import { createHash } from 'node:crypto';
import { checkLayout, planesOf } from '../codec/layout.js';
import { rungOf } from '../codec/rungs.js';
import type { PrefixHash } from '../key/hash-chain.js';
import { refuseUnknown } from '../options.js';
import type { KvLayout } from '../types.js';

/** A layout without its number of tokens: what all chunks of one cache have in common. */
export type KvGeometry = Omit<KvLayout, 'tokens'>;

/** Everything besides the prefix hash that a tensor is identified by. Tensors of different namespaces never meet. */
export interface Namespace {
  /** Model id, as the engine names it. */
  readonly model: string;
  readonly geometry: KvGeometry;
  /** Whatever else keeps caches apart: an engine's page format, the tensor shapes of a layout that is not understood. Default: nothing. */
  readonly variant?: string;
  /** Adapter (LoRA) that the cache was computed with. Default: none. */
  readonly adapter?: string;
  /** Tenant's salt: without it nobody finds the tenant's chunks. Only its digest is stored. Default: none. */
  readonly salt?: string;
  /** Which part of a tensor-parallel model the tensors are. Default: the whole model. */
  readonly rank?: { readonly index: number; readonly of: number };
  /** Rung of the objects, or `near` or `lossy`. Default `exact`. */
  readonly quality?: string;
}

const FIELDS = new Set(['model', 'geometry', 'variant', 'adapter', 'salt', 'rank', 'quality']);
const MAX_HASH_DIGITS = 128;
const NO_DIGIT = /[^0-9a-f]/;
const DIGEST = /^[0-9a-f]{32}$/;

/** The namespace's digest: 32 hex digits, the same in every process and version. Throws a TypeError or RangeError for a wrong part. */
export function namespaceDigest(namespace: Namespace): string {
  checkNamespace(namespace);
  const { model, geometry, variant, adapter, salt, rank, quality = 'exact' } = namespace;
  const parts: unknown[] = ['kvreel namespace 1', model, geometryParts(geometry), adapter ?? null, salt ?? null, rank ? [rank.index, rank.of] : null, rungOf(quality).name];
  if (variant !== undefined) parts.push(variant); // only then, so that namespaces without one keep their digest
  // JSON of this list is canonical: the order of its parts is fixed and every part is quoted or a number.
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);
}

/** Throws a TypeError or RangeError for the first part of a namespace that cannot be. */
export function checkNamespace(namespace: Namespace): void {
  if (typeof namespace !== 'object' || namespace === null) throw new TypeError(`expected \`namespace\` to be an object, got ${typeof namespace}`);
  refuseUnknown(namespace, FIELDS);
  const { model, geometry, variant, adapter, salt, rank, quality } = namespace;
  checkName('model', model);
  if (variant !== undefined) checkName('variant', variant);
  if (adapter !== undefined) checkName('adapter', adapter);
  if (salt !== undefined) checkName('salt', salt);
  if (typeof geometry !== 'object' || geometry === null) throw new TypeError(`expected \`geometry\` to be an object, got ${typeof geometry}`);
  if ('tokens' in geometry) throw new TypeError('expected `geometry` to have no `tokens`: chunks of one store may differ in them');
  checkLayout(layoutOf(geometry, geometry.blockTokens ?? 1));
  if (rank !== undefined) {
    const isRank = Number.isInteger(rank.index) && Number.isInteger(rank.of) && rank.index >= 0 && rank.index < rank.of;
    if (!isRank) throw new RangeError(`expected \`rank\` to be an index below \`of\`, got ${rank.index} of ${rank.of}`);
  }
  if (quality !== undefined) rungOf(quality);
}

/** Whether a stored tensor has the geometry that its namespace promises. */
export function hasGeometry(layout: KvLayout, geometry: KvGeometry): boolean {
  return JSON.stringify(geometryParts(layout)) === JSON.stringify(geometryParts(geometry));
}

/** The layout of a chunk of `tokens` tokens. */
export function layoutOf(geometry: KvGeometry, tokens: number): KvLayout {
  return { ...geometry, tokens };
}

/** Storage key of a chunk. Throws a TypeError for what cannot be a prefix hash. */
export function chunkKey(digest: string, hash: PrefixHash): string {
  return `chunks/${digest}/${checkedHash(hash)}`;
}

/** Storage key of the manifest of the run that ends with `hash`. Throws a TypeError for what cannot be a prefix hash. */
export function runKey(digest: string, hash: PrefixHash): string {
  return `runs/${digest}/${checkedHash(hash)}`;
}

/** The parts of a storage key of ours; undefined for other keys. */
export function parseKey(key: string): { readonly kind: 'chunks' | 'runs'; readonly namespace: string; readonly hash: PrefixHash } | undefined {
  const [kind, namespace = '', hash = '', ...rest] = key.split('/');
  if ((kind !== 'chunks' && kind !== 'runs') || rest.length > 0 || !DIGEST.test(namespace) || !isPrefixHash(hash)) return undefined;
  return { kind, namespace, hash };
}

/** Whether a value is text that can be a prefix hash. */
export function isPrefixHash(value: unknown): value is PrefixHash {
  if (typeof value !== 'string') return false;
  const digits = value.startsWith('-') ? value.slice(1) : value;
  // One regular expression for all takes twice as long: lookups bring hashes by the thousand.
  return digits.length > 0 && digits.length <= MAX_HASH_DIGITS && !NO_DIGIT.test(digits);
}

function checkedHash(hash: PrefixHash): PrefixHash {
  if (!isPrefixHash(hash)) throw new TypeError(`expected a prefix hash to be 1 to 128 lower-case hex digits, got ${JSON.stringify(hash)}`);
  return hash;
}

function checkName(field: string, name: string): void {
  if (typeof name !== 'string') throw new TypeError(`expected \`${field}\` to be a string, got ${typeof name}`);
  if (name === '' || /\p{Surrogate}/u.test(name)) throw new RangeError(`expected \`${field}\` to be text of at least one character, got ${JSON.stringify(name)}`);
}

function geometryParts(geometry: KvGeometry): unknown[] {
  const { order, dtype, layers, kvHeads, headDim, blockTokens, rope } = geometry;
  const theta = typeof rope?.theta === 'number' ? [rope.theta] : rope?.theta;
  const rotation = rope ? [rope.style, rope.rotaryDims ?? headDim, theta] : null;
  return [order, dtype, layers, planesOf(layoutOf(geometry, 1)), kvHeads, headDim, blockTokens ?? null, rotation];
}
