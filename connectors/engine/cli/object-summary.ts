// What is told about objects and layouts, the same in every command. JSON speaks snake_case.
import { elementCount } from '../../../lib/codec/layout.js';
import type { MeasuredError } from '../../../lib/container/header.js';
import type { KvLayout } from '../../../lib/types.js';

/** A layout as JSON. */
export function layoutJson({ order, dtype, layers, tokens, kvHeads, headDim, blockTokens, rope }: KvLayout): Record<string, unknown> {
  return {
    order,
    dtype,
    layers,
    tokens,
    kv_heads: kvHeads,
    head_dim: headDim,
    ...(blockTokens !== undefined && { block_tokens: blockTokens }),
    ...(rope && { rope: { theta: rope.theta, style: rope.style, ...(rope.rotaryDims !== undefined && { rotary_dims: rope.rotaryDims }) } }),
  };
}

/** A layout for people. */
export function layoutText({ order, dtype, layers, tokens, kvHeads, headDim }: KvLayout): string {
  return order === 'bytes' ? `bytes, ${tokens} rows of ${headDim} ${dtype}` : `${order}, ${layers} layers, ${tokens} tokens, ${kvHeads} heads of ${headDim}, ${dtype}`;
}

/** Bits that an object takes for each value of its tensor, all of it counted. */
export function bitsPerValue(objectBytes: number, layout: KvLayout): number {
  return rounded((8 * objectBytes) / elementCount(layout), 4);
}

/** How far a decoded tensor is from its original; no error where it is the same bit by bit. */
export function errorJson(error: MeasuredError | undefined): { max_abs_error: number; rel_rms_error: number; identical: boolean } {
  return { max_abs_error: error?.maxAbsolute ?? 0, rel_rms_error: error?.relativeRms ?? 0, identical: error === undefined };
}

/** The same for people. */
export function errorText(error: MeasuredError | undefined): string {
  return error ? `at most ${error.maxAbsolute.toPrecision(3)}, relative RMS ${error.relativeRms.toPrecision(3)}` : 'none: identical';
}

/** A number with at most `digits` digits after the point. */
export function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
