import { elementBytes, packLayout, planesOf } from '../codec/layout.js';
import type { KvLayout, KvTensor } from '../types.js';

/** Tokens of some layers inside a canonical tensor. */
export interface TokenPlace {
  readonly tensor: KvTensor;
  /** Default 0. */
  readonly layer?: number;
  readonly token: number;
}

/** A canonical tensor with the same content: `split`, or `mla` where layers have one plane. Copies only what is not canonical. */
export function canonical(tensor: KvTensor): KvTensor {
  return isCanonical(tensor.layout) ? tensor : packLayout(tensor);
}

/** Whether the planes of a layout are dense [kv_heads][tokens][head_dim], one after the other. */
export function isCanonical(layout: KvLayout): boolean {
  return layout.order === 'split' || layout.order === 'mla';
}

/** Copies `tokens` tokens of `layers` layers between canonical tensors of the same heads, dims and dtype. */
export function copyTokens(from: TokenPlace, to: TokenPlace, layers: number, tokens: number): void {
  const { layout } = from.tensor;
  const tokenBytes = layout.headDim * elementBytes(layout.dtype);
  const rowsOfLayer = planesOf(layout) * layout.kvHeads;
  for (let row = 0; row < layers * rowsOfLayer; row++) {
    const source = (((from.layer ?? 0) * rowsOfLayer + row) * layout.tokens + from.token) * tokenBytes;
    const target = (((to.layer ?? 0) * rowsOfLayer + row) * to.tensor.layout.tokens + to.token) * tokenBytes;
    to.tensor.data.set(from.tensor.data.subarray(source, source + tokens * tokenBytes), target);
  }
}
