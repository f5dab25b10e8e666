import { DTYPES, LAYOUT_ORDERS, native, type NativeLayout } from './native.js';
import type { Dtype, KvLayout, KvTensor } from '../types.js';

const ELEMENT_BYTES: Readonly<Record<Dtype, number>> = { bf16: 2, f16: 2, f32: 4, f8_e4m3: 1, f8_e5m2: 1, u8: 1 };
// The limits of addon/codec/plane_shape.h.
const MAX_LAYERS = 4096;
const MAX_TOKENS = 2 ** 28;
const MAX_BYTES = 2 ** 40 - 1;
const PAGED: ReadonlySet<string> = new Set(['vllm_cpu_pages', 'vllm_cpu_rows', 'sglang_layer_first', 'sglang_page_first']);

/** Bytes of one element. */
export function elementBytes(dtype: Dtype): number {
  return ELEMENT_BYTES[dtype];
}

/** Planes a layer has: K and V, or the one latent plane of MLA (and of bytes, which are taken as a plane of rows). */
export function planesOf(layout: KvLayout): number {
  return layout.order === 'mla' || layout.order === 'bytes' ? 1 : 2;
}

/** Elements of the whole tensor. */
export function elementCount(layout: KvLayout): number {
  return layout.layers * planesOf(layout) * layout.tokens * layout.kvHeads * layout.headDim;
}

/** Bytes of the whole tensor. */
export function tensorBytes(layout: KvLayout): number {
  return elementCount(layout) * elementBytes(layout.dtype);
}

/** Throws a TypeError or RangeError that names the first field of a layout that cannot be. */
export function checkLayout(layout: KvLayout): void {
  if (!LAYOUT_ORDERS.includes(layout.order)) throw new TypeError(`expected \`layout.order\` to be one of ${LAYOUT_ORDERS.join(', ')}, got ${String(layout.order)}`);
  if (!DTYPES.includes(layout.dtype)) throw new TypeError(`expected \`layout.dtype\` to be one of ${DTYPES.join(', ')}, got ${String(layout.dtype)}`);
  for (const field of ['layers', 'tokens', 'kvHeads', 'headDim'] as const) expectPositive(`layout.${field}`, layout[field]);
  if (layout.blockTokens !== undefined) expectPositive('layout.blockTokens', layout.blockTokens);
  if (PAGED.has(layout.order)) {
    const block = layout.blockTokens ?? 0;
    if (block === 0 || layout.tokens % block !== 0) {
      throw new RangeError(`expected \`layout.blockTokens\` to divide tokens (${layout.tokens}) in the paged order ${layout.order}, got ${layout.blockTokens}`);
    }
    if (layout.order === 'vllm_cpu_rows' && block % 2 !== 0) throw new RangeError(`expected \`layout.blockTokens\` to be even for vllm_cpu_rows, got ${block}`);
  }
  if (planesOf(layout) === 1 && layout.kvHeads !== 1) throw new RangeError(`expected \`layout.kvHeads\` to be 1 in order ${layout.order}, got ${layout.kvHeads}`);
  if (layout.kvHeads * layout.headDim > 65536) throw new RangeError(`expected kvHeads * headDim to be at most 65536, got ${layout.kvHeads * layout.headDim}`);
  if (layout.layers > MAX_LAYERS) throw new RangeError(`expected \`layout.layers\` to be at most ${MAX_LAYERS}, got ${layout.layers}`);
  if (layout.tokens > MAX_TOKENS) throw new RangeError(`expected \`layout.tokens\` to be at most ${MAX_TOKENS}, got ${layout.tokens}`);
  if (tensorBytes(layout) > MAX_BYTES) throw new RangeError(`expected a tensor of at most ${MAX_BYTES} bytes, got ${tensorBytes(layout)}`);
  checkRope(layout);
}

/** Throws unless the tensor's memory is as long as its layout says, and is not shared or resizable. */
export function checkTensor(tensor: KvTensor): void {
  checkLayout(tensor.layout);
  checkMemory('tensor.data', tensor.data);
  const expected = tensorBytes(tensor.layout);
  if (tensor.data.byteLength !== expected) {
    throw new RangeError(`expected \`tensor.data\` to be ${expected} bytes, as its layout says, got ${tensor.data.byteLength}`);
  }
  checkStart(tensor.start ?? 0);
}

/** Throws unless a position is one that a sequence can have. */
export function checkStart(start: number): void {
  if (!Number.isInteger(start) || start < 0 || start > 0xffffffff) throw new RangeError(`expected \`start\` to be an integer from 0 to 2^32 - 1, got ${start}`);
}

/** Throws unless the bytes are a view that native threads may work on. */
export function checkMemory(name: string, bytes: Uint8Array): void {
  if (!(bytes instanceof Uint8Array)) throw new TypeError(`expected \`${name}\` to be a Uint8Array, got ${typeof bytes}`);
  if (!(bytes.buffer instanceof ArrayBuffer)) throw new TypeError(`expected \`${name}\` to lie in an ArrayBuffer that is not shared`);
  if ((bytes.buffer as { resizable?: boolean }).resizable === true) throw new TypeError(`expected \`${name}\` to lie in an ArrayBuffer that cannot be resized`);
}

/** The layout as the addon takes it. */
export function toNativeLayout(layout: KvLayout): NativeLayout {
  return {
    order: LAYOUT_ORDERS.indexOf(layout.order),
    dtype: DTYPES.indexOf(layout.dtype),
    layers: layout.layers,
    planes: planesOf(layout),
    tokens: layout.tokens,
    kvHeads: layout.kvHeads,
    headDim: layout.headDim,
    blockTokens: layout.blockTokens ?? 0,
  };
}

/** The same tensor in canonical order: `split`, or `mla` where layers have one plane. */
export function canonicalLayout({ blockTokens: _, ...layout }: KvLayout): KvLayout {
  return { ...layout, order: planesOf(layout) === 1 ? 'mla' : 'split' };
}

/**
 * Copies a tensor into canonical order: [layers][2][kv_heads][tokens][head_dim] (`split`), or `mla` as it is.
 * The result is a copy; the inverse is `unpackLayout`.
 */
export function packLayout(tensor: KvTensor): KvTensor {
  checkTensor(tensor);
  const data = new Uint8Array(tensor.data.byteLength);
  native().pack(toNativeLayout(tensor.layout), tensor.data, data);
  return { ...tensor, layout: canonicalLayout(tensor.layout), data };
}

/** The inverse of `packLayout`: a canonical tensor copied into the order and blocks of `layout`, which has the same geometry. */
export function unpackLayout(tensor: KvTensor, layout: KvLayout): KvTensor {
  checkTensor(tensor);
  checkLayout(layout);
  if (tensor.layout.order !== canonicalLayout(layout).order) throw new TypeError(`expected a canonical tensor, got order ${tensor.layout.order}`);
  const data = new Uint8Array(tensor.data.byteLength);
  native().unpack(toNativeLayout(layout), tensor.data, data);
  return { ...tensor, layout, data };
}

function checkRope(layout: KvLayout): void {
  const rope = layout.rope;
  if (rope === undefined) return;
  const thetas = typeof rope.theta === 'number' ? [rope.theta] : rope.theta;
  if (thetas.length !== 1 && thetas.length !== layout.layers) {
    throw new RangeError(`expected \`layout.rope.theta\` to be one number or one a layer (${layout.layers}), got ${thetas.length}`);
  }
  for (const theta of thetas) {
    if (!(theta >= 1 && theta <= 1e30)) throw new RangeError(`expected \`layout.rope.theta\` to be from 1 to 1e30, got ${theta}`);
  }
  if (rope.style !== 'half' && rope.style !== 'interleaved') throw new TypeError(`expected \`layout.rope.style\` to be half or interleaved, got ${String(rope.style)}`);
  const dims = rope.rotaryDims ?? layout.headDim;
  if (!Number.isInteger(dims) || dims < 2 || dims % 2 !== 0 || dims > layout.headDim) {
    throw new RangeError(`expected \`layout.rope.rotaryDims\` to be even and from 2 to headDim (${layout.headDim}), got ${dims}`);
  }
}

function expectPositive(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1 || value > 0xffffffff) throw new RangeError(`expected \`${name}\` to be a positive integer, got ${value}`);
}
