// LMCache's data as a tensor of ours, and back. LMCache does not know heads: its rows hold those of one token side by side.
import { elementBytes, packLayout, tensorBytes, unpackLayout } from '../../../lib/codec/layout.js';
import type { LmcacheDtype } from '../../../lib/key/lmcache-key.js';
import type { Dtype, KvLayout, KvTensor } from '../../../lib/types.js';
import { KvError } from '../../../lib/errors.js';
import { dataBytes, dtypeBytes, type MemoryFormat, type RemoteMetadata } from './remote-metadata.js';

/** The order in which rows hold K and V. */
export const ORDERS = ['lmcache_2ltd', 'fused', 'vllm_cpu_rows', 'mla', 'bytes'] as const;

export type ChunkOrder = (typeof ORDERS)[number];

/** What LMCache does not write down. */
export interface TensorHints {
  /** Default: what shape and format tell: `lmcache_2ltd` for [2, layers, tokens, hidden], `mla` for KV_MLA_FMT, else `bytes`. */
  readonly order?: ChunkOrder;
  /** Dims of a head. Default: a row is one head. */
  readonly headDim?: number;
  /** Tokens of one block of the engine; needed for `vllm_cpu_rows`. */
  readonly blockTokens?: number;
}

/** LMCache's data as a tensor. */
export interface ChunkTensor {
  /** A view of the data, unless rows of bytes had to be filled up. */
  readonly tensor: KvTensor;
  /** Why it is taken as bytes; undefined where its layout is understood, or bytes were asked for. */
  readonly notUnderstood?: string;
}

const DTYPES: Partial<Record<LmcacheDtype, Dtype>> = { half: 'f16', bfloat16: 'bf16', float: 'f32', uint8: 'u8', fp8_e4m3fn: 'f8_e4m3', fp8_e5m2: 'f8_e5m2' };
const LMCACHE_DTYPES = Object.fromEntries(Object.entries(DTYPES).map(([theirs, ours]) => [ours, theirs])) as Record<Dtype, LmcacheDtype>;
const MAX_CHANNELS = 65536;
const MIN_ROW = 16;
const DEFAULT_ROW = 256;

/** Our name of an element type; undefined for those that we have none for. */
export function dtypeOf(dtype: LmcacheDtype): Dtype | undefined {
  return DTYPES[dtype];
}

/** LMCache's name of an element type. */
export function lmcacheDtype(dtype: Dtype): LmcacheDtype {
  return LMCACHE_DTYPES[dtype];
}

/** Takes data for the tensor that its metadata tells of. Throws KV_CORRUPT_OBJECT where the data are longer or shorter. */
export function chunkTensor(metadata: RemoteMetadata, data: Uint8Array, hints: TensorHints = {}): ChunkTensor {
  if (data.length !== metadata.length) throw new KvError('KV_CORRUPT_OBJECT', `the LMCache object is damaged: it has ${data.length} bytes of data instead of ${metadata.length}`);
  const layout = hints.order === 'bytes' ? undefined : layoutOf(metadata, hints);
  if (typeof layout === 'object') return { tensor: { layout, data } };
  return { tensor: rowsOf(metadata, data), ...(layout !== undefined && { notUnderstood: layout }) };
}

/** Tokens of a chunk, if its shape tells them. */
export function tokensOf({ format, groups }: RemoteMetadata): number | undefined {
  const shape = groups[0]?.shape ?? [];
  const withoutKv = shape.length === 4 ? shape.slice(1) : shape;
  return (format === 'KV_2LTD' || format === 'KV_MLA_FMT') && withoutKv.length === 3 ? withoutKv[1] : undefined;
}

/** Metadata of data of one shape. Throws a RangeError for a shape that cannot be. */
export function metadataOf(format: MemoryFormat, dtype: LmcacheDtype, shape: readonly number[]): RemoteMetadata {
  if (shape.length > 4) throw new RangeError(`expected a shape of at most 4 dimensions, got ${shape.length}`);
  const groups = [{ dtype, shape }];
  return { length: dataBytes(groups), format, groups };
}

/**
 * A tensor of ours as LMCache stores it. `known` is the metadata that its data came with, if they came from LMCache. Throws
 * KV_UNSUPPORTED for bytes that did not, KV_CORRUPT_OBJECT where `known` is of other data.
 */
export function lmcacheData(tensor: KvTensor, known: RemoteMetadata | undefined, order: 'lmcache_2ltd' | 'fused' = 'lmcache_2ltd'): { metadata: RemoteMetadata; data: Uint8Array } {
  if (known !== undefined) {
    const isLong = tensor.layout.order === 'bytes' ? known.length > tensor.data.length : known.length !== tensor.data.length;
    if (isLong) throw new KvError('KV_CORRUPT_OBJECT', `the object is damaged: it tells of ${known.length} bytes from LMCache and holds ${tensor.data.length}`);
    return { metadata: known, data: tensor.data.subarray(0, known.length) };
  }
  const { layout, data } = reordered(tensor, order);
  const { layers, tokens, kvHeads, headDim } = layout;
  const shape = { lmcache_2ltd: [2, layers, tokens, kvHeads * headDim], fused: [1, layers, tokens, 2 * kvHeads * headDim], mla: [1, layers, tokens, headDim] }[layout.order as 'lmcache_2ltd' | 'fused' | 'mla'];
  return { metadata: metadataOf(layout.order === 'mla' ? 'KV_MLA_FMT' : 'KV_2LTD', lmcacheDtype(layout.dtype), shape), data };
}

function reordered(tensor: KvTensor, wanted: 'lmcache_2ltd' | 'fused'): KvTensor {
  const { order, blockTokens: _, ...geometry } = tensor.layout;
  if (order === 'bytes') throw new KvError('KV_UNSUPPORTED', 'the object holds bytes that did not come from LMCache; nobody knows their layout');
  if (order === wanted || order === 'mla') return tensor;
  return unpackLayout(packLayout(tensor), { ...geometry, order: wanted });
}

// The layout, or why it is not known.
function layoutOf({ format, groups }: RemoteMetadata, hints: TensorHints): KvLayout | string {
  const [group, ...others] = groups;
  if (group === undefined || others.length > 0) return `it has ${groups.length} groups of layers`;
  const dtype = group.dtype && DTYPES[group.dtype];
  if (dtype === undefined) return `its elements are ${group.dtype ?? format}`;
  if (format !== 'KV_2LTD' && format !== 'KV_MLA_FMT') return `its format is ${format}`;
  const order = hints.order ?? (format === 'KV_MLA_FMT' ? 'mla' : 'lmcache_2ltd');
  const [kvSize, layers = 0, tokens = 0, hidden = 0] = group.shape.length === 3 ? [1, ...group.shape] : group.shape;
  const planes = order === 'lmcache_2ltd' ? 2 : 1;
  if (group.shape.length < 3 || kvSize !== planes) return `its shape is [${group.shape.join(', ')}], where ${order} has [${planes}, layers, tokens, hidden]`;
  const heads = headsOf(order, hidden, hints);
  if (typeof heads === 'string') return heads;
  const layout = { order: order as KvLayout['order'], dtype, layers, tokens, ...heads };
  if (order !== 'vllm_cpu_rows') return layout;
  const { blockTokens } = hints;
  if (blockTokens === undefined) return 'the tokens of a block were not said';
  if (blockTokens % 2 !== 0 || tokens % blockTokens !== 0) return `its ${tokens} tokens are no whole blocks of ${blockTokens}`;
  return { ...layout, blockTokens };
}

// The heads that make a row of `hidden` elements, or why they do not.
function headsOf(order: ChunkOrder, hidden: number, { headDim: said }: TensorHints): { kvHeads: number; headDim: number } | string {
  const isFused = order === 'fused' || order === 'vllm_cpu_rows';
  if (isFused && said === undefined) return 'the dims of a head were not said';
  const headDim = order === 'mla' ? hidden : (said ?? hidden);
  const kvHeads = hidden / (isFused ? 2 * headDim : headDim);
  if (!Number.isInteger(kvHeads)) return `its rows of ${hidden} elements are not made of heads of ${headDim}`;
  if (hidden > MAX_CHANNELS) return `its rows have ${hidden} elements`;
  return { kvHeads, headDim };
}

// Rows of the length that the shape suggests, zeros after the end.
function rowsOf({ groups }: RemoteMetadata, data: Uint8Array): KvTensor {
  const [group] = groups;
  const dtype = (group?.dtype && DTYPES[group.dtype]) ?? 'u8';
  const last = group?.shape.at(-1) ?? 0;
  const isRow = last >= MIN_ROW && last <= MAX_CHANNELS && group?.dtype !== undefined && dtypeBytes(group.dtype) === elementBytes(dtype);
  const headDim = isRow ? last : DEFAULT_ROW;
  const layout: KvLayout = { order: 'bytes', dtype, layers: 1, tokens: Math.ceil(data.length / (headDim * elementBytes(dtype))), kvHeads: 1, headDim };
  if (tensorBytes(layout) === data.length) return { layout, data };
  const padded = new Uint8Array(tensorBytes(layout));
  padded.set(data);
  return { layout, data: padded };
}
