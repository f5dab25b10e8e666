// Seeded tensors for tests: values that look like a KV cache, and every kind of float that does not.
import { elementBytes, elementCount } from '../../lib/codec/layout.js';
import type { Dtype, KvLayout, KvTensor } from '../../lib/index.js';

/** A seeded generator of numbers in [0, 1): mulberry32. */
export function randomSource(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The bits of a float as an element of `dtype` (8-bit types: the byte nearest to it). */
export function bitsOf(dtype: Dtype, value: number): number {
  const float = new Float32Array([value]);
  const bits = new Uint32Array(float.buffer)[0] ?? 0;
  switch (dtype) {
    case 'f32':
      return bits;
    case 'bf16':
      return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
    case 'f16':
      return halfBits(value);
    default:
      return Math.max(0, Math.min(255, Math.round(128 + 40 * value)));
  }
}

/** The float that the bits of an element of `dtype` mean. */
export function valueOf(dtype: Dtype, bits: number): number {
  if (dtype === 'bf16' || dtype === 'f32') return new Float32Array(new Uint32Array([dtype === 'bf16' ? bits << 16 : bits]).buffer)[0] ?? NaN;
  if (dtype !== 'f16') return bits;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const magnitude = exponent === 31 ? (fraction ? NaN : Infinity) : exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
}

// Round-to-nearest for normal halves, enough for test data.
function halfBits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (magnitude < 2 ** -14) return sign | Math.round(magnitude * 2 ** 24);
  const exponent = Math.min(15, Math.floor(Math.log2(magnitude)));
  return sign | (Math.round((magnitude / 2 ** exponent - 1) * 1024) + ((exponent + 15) << 10));
}

/** A tensor filled by `next`, which gives the bits of each element in order. */
export function tensorOf(layout: KvLayout, next: (index: number) => number, start = 0): KvTensor {
  const width = elementBytes(layout.dtype);
  const data = new Uint8Array(elementCount(layout) * width);
  const view = new DataView(data.buffer);
  for (let i = 0; i < elementCount(layout); i++) {
    if (width === 1) view.setUint8(i, next(i));
    else if (width === 2) view.setUint16(2 * i, next(i), true);
    else view.setUint32(4 * i, next(i), true);
  }
  return { layout, data, start };
}

/** Values with channel means and scales of their own, as a KV cache has. */
export function cacheLike(layout: KvLayout, seed: number, start = 0): KvTensor {
  const random = randomSource(seed);
  const gauss = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const means = Array.from({ length: layout.headDim }, () => gauss());
  const scales = Array.from({ length: layout.headDim }, () => 0.1 + random());
  return tensorOf(layout, (i) => bitsOf(layout.dtype, (means[i % layout.headDim] ?? 0) + gauss() * (scales[i % layout.headDim] ?? 1)), start);
}

/** A real capture of SmolLM2-135M: 30 layers, 256 tokens, bf16. */
export const CAPTURE = new URL('../../fixtures/captures/smollm2-gpl3-t0-256.safetensors', import.meta.url);
