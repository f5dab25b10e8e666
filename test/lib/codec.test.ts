import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { checkLayout } from '../../lib/codec/layout.js';
import { native } from '../../lib/codec/native.js';
import {
  CODER_NAMES,
  decode,
  encode,
  encodeBound,
  inspect,
  packLayout,
  RUNG_NAMES,
  tensorBytes,
  unpackLayout,
  type EncodeOptions,
  type KvLayout,
  type KvTensor,
  type LayoutOrder,
} from '../../lib/index.js';
import { bitsOf, cacheLike, CAPTURE, randomSource, tensorOf, valueOf } from './tensors.js';

const LOSSLESS = ['raw', 'exact', 'zstd'];
const QUANTISING = ['rans', 'hevc'];
const QUANTISED_RUNGS = RUNG_NAMES.filter((name) => name !== 'exact');
const DTYPES = ['bf16', 'f16', 'f32', 'f8_e4m3', 'f8_e5m2', 'u8'] as const;
const FLOATS = ['bf16', 'f16', 'f32'] as const;

const small: KvLayout = { order: 'split', dtype: 'bf16', layers: 2, tokens: 40, kvHeads: 2, headDim: 16 };
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

function captureTensor(layers: number): KvTensor {
  const file = readFileSync(CAPTURE);
  const begin = 8 + Number(file.readBigUInt64LE(0));
  const layout: KvLayout = { order: 'split', dtype: 'bf16', layers, tokens: 256, kvHeads: 3, headDim: 64, rope: { theta: 100000, style: 'half' } };
  return { layout, data: new Uint8Array(file.subarray(begin, begin + tensorBytes(layout))) };
}

test('the coders under test are all there are', () => {
  expect([...CODER_NAMES].sort()).toEqual([...LOSSLESS, ...QUANTISING].sort());
});

describe.each(LOSSLESS)('coder %s restores every bit', (coder) => {
  test.each(DTYPES)('of random bits as %s', async (dtype) => {
    const random = randomSource(7);
    const tensor = tensorOf({ ...small, dtype }, () => Math.floor(random() * 2 ** 32));
    const decoded = await decode(await encode(tensor, { coder }));
    expect(same(decoded.data, tensor.data)).toBe(true);
    expect(decoded.layout).toEqual(tensor.layout);
  });

  test.each(DTYPES)('of cache-like values as %s', async (dtype) => {
    const tensor = cacheLike({ ...small, dtype }, 3, 128);
    const decoded = await decode(await encode(tensor, { coder }));
    expect(same(decoded.data, tensor.data)).toBe(true);
    expect(decoded.start).toBe(128);
  });

  test('of NaN payloads, infinities, zeros and denormals', async () => {
    const special = [0, 0x8000, 0x7f80, 0xff80, 0x7fc0, 0x7f81, 0xffff, 1, 0x8001, 0x007f, 0x7f7f];
    const tensor = tensorOf(small, (i) => special[i % special.length] ?? 0);
    expect(same((await decode(await encode(tensor, { coder }))).data, tensor.data)).toBe(true);
  });

  test('of bytes in an unknown layout', async () => {
    const tensor = cacheLike({ order: 'bytes', dtype: 'u8', layers: 1, tokens: 997, kvHeads: 1, headDim: 3 }, 5);
    expect(same((await decode(await encode(tensor, { coder }))).data, tensor.data)).toBe(true);
  });

  test('of any small shape, order and section size', async () => {
    await fc.assert(
      fc.asyncProperty(shapes, fc.integer({ min: 1, max: 70 }), fc.integer(), async (layout, groupTokens, seed) => {
        const tensor = cacheLike(layout, seed);
        const decoded = await decode(await encode(tensor, { coder, groupTokens }));
        return same(decoded.data, tensor.data);
      }),
      { numRuns: 60 },
    );
  });
});

describe.each(QUANTISING)('coder %s', (coder) => {
  test.each(FLOATS.flatMap((dtype) => QUANTISED_RUNGS.map((quality) => [dtype, quality] as const)))('%s at %s stays within the error it states', async (dtype, quality) => {
    const tensor = cacheLike({ ...small, dtype, rope: { theta: 10000, style: 'half' } }, 11, 512);
    const object = await encode(tensor, { coder, quality });
    const stated = inspect(object).error;
    const error = compare(tensor, await decode(object));
    expect(error.max).toBeGreaterThan(0);
    expect(error.max).toBeCloseTo(stated?.maxAbsolute ?? NaN, 5);
    expect(error.relativeRms).toBeCloseTo(stated?.relativeRms ?? NaN, 5);
  });

  test('each coarser rung is smaller and less exact on a real capture', async () => {
    const tensor = captureTensor(2);
    let size = Infinity;
    let error = 0;
    for (const quality of QUANTISED_RUNGS) {
      const object = await encode(tensor, { coder, quality });
      expect(object.length).toBeLessThan(size);
      expect(inspect(object).error?.relativeRms).toBeGreaterThan(error);
      size = object.length;
      error = inspect(object).error?.relativeRms ?? NaN;
    }
    expect((size * 16) / tensor.data.length).toBeLessThan(3);
    expect(error).toBeLessThan(0.5);
  });

  test('keeps the first token of a sequence exact', async () => {
    const tensor = captureTensor(1);
    const decoded = await decode(await encode(tensor, { coder, quality: 'q2' }));
    for (let head = 0; head < 6; head++) {
      const at = head * 256 * 64 * 2;
      expect(same(decoded.data.subarray(at, at + 128), tensor.data.subarray(at, at + 128))).toBe(true);
    }
    expect(same(decoded.data, tensor.data)).toBe(false);
  });

  test('any small shape, order and rope decodes to its stated error', async () => {
    const ropes = fc.option(fc.record({ theta: fc.double({ min: 1, max: 1e6, noNaN: true }), style: fc.constantFrom('half' as const, 'interleaved' as const) }), { nil: undefined });
    await fc.assert(
      fc.asyncProperty(shapes, ropes, fc.integer({ min: 1, max: 70 }), fc.constantFrom(...QUANTISED_RUNGS), fc.nat(5000), async (shape, rope, groupTokens, quality, seed) => {
        const usable = rope !== undefined && shape.headDim % 2 === 0 ? { ...shape, rope } : shape;
        const tensor = cacheLike({ ...usable, dtype: 'bf16' }, seed, seed % 3 === 0 ? 0 : seed);
        const object = await encode(tensor, { coder, quality, groupTokens });
        const error = compare(tensor, await decode(object));
        expect(error.max).toBeCloseTo(inspect(object).error?.maxAbsolute ?? 0, 4);
      }),
      { numRuns: 40 },
    );
  });

  test('zeros stay zeros', async () => {
    const tensor = tensorOf(small, () => 0);
    const decoded = await decode(await encode(tensor, { coder, quality: 'q4' }));
    expect(compare(tensor, decoded).max).toBe(0);
  });

  test('a value that is not finite is refused', async () => {
    const tensor = tensorOf(small, (i) => (i === 700 ? 0x7fc0 : bitsOf('bf16', Math.sin(i))));
    await expect(encode(tensor, { coder, quality: 'q4' })).rejects.toMatchObject({ code: 'KV_UNSUPPORTED' });
  });

  test('the rung exact and 8-bit elements are refused with a way out', async () => {
    await expect(encode(cacheLike(small, 1), { coder, quality: 'exact' })).rejects.toMatchObject({ code: 'KV_UNSUPPORTED' });
    await expect(encode(cacheLike({ ...small, dtype: 'f8_e4m3' }, 1), { coder, quality: 'q4' })).rejects.toThrow(/use exact/);
  });
});

test('rans and hevc carry the same integers', async () => {
  const tensor = captureTensor(3);
  for (const quality of QUANTISED_RUNGS) {
    const [a, b] = await Promise.all(QUANTISING.map(async (coder) => decode(await encode(tensor, { coder, quality }))));
    expect(same(a?.data ?? new Uint8Array(), b?.data ?? new Uint8Array(1))).toBe(true);
  }
});

describe('portable and vector code give the same bytes', () => {
  afterEach(() => native().forceScalar(false));

  test.each([...LOSSLESS, ...QUANTISING])('%s', async (coder) => {
    const tensor = captureTensor(1);
    const quality = QUANTISING.includes(coder) ? 'q5' : 'exact';
    const fast = await encode(tensor, { coder, quality });
    const fastDecoded = await decode(fast);
    native().forceScalar(true);
    expect(same(await encode(tensor, { coder, quality }), fast)).toBe(true);
    expect(same((await decode(fast)).data, fastDecoded.data)).toBe(true);
  });
});

describe('layouts', () => {
  test('every order is a bijection to canonical order and back', () => {
    fc.assert(
      fc.property(shapes, (layout) => {
        const bytes = elementIds(layout);
        const canonical = packLayout({ layout, data: bytes });
        expect(same(unpackLayout(canonical, layout).data, bytes)).toBe(true);
        expect([...ids(canonical.data)].sort((a, b) => a - b)).toEqual([...ids(bytes)]);
      }),
      { numRuns: 200 },
    );
  });

  test('the same cache in another order decodes to the same cache', async () => {
    const canonical = cacheLike({ ...small, tokens: 32 }, 9);
    for (const order of ['fused', 'lmcache_2ltd', 'vllm_cpu_pages', 'vllm_cpu_rows', 'sglang_layer_first', 'sglang_page_first'] as const) {
      const ordered = unpackLayout(canonical, { ...canonical.layout, order, blockTokens: 8 });
      const decoded = await decode(await encode(ordered, { coder: 'exact' }));
      expect(same(packLayout(decoded).data, canonical.data)).toBe(true);
    }
  });
});

describe('memory and calls', () => {
  test('encode and decode write into memory of the caller', async () => {
    const tensor = cacheLike(small, 2);
    const room = new Uint8Array(encodeBound(tensor, { metadata: { origin: 'test' } }) + 3).subarray(3);
    const object = await encode(tensor, { metadata: { origin: 'test' }, into: room });
    expect(object.buffer).toBe(room.buffer);
    const into = new Uint8Array(tensor.data.length + 1).subarray(1);
    const decoded = await decode(object, { into });
    expect(decoded.data).toBe(into);
    expect(same(into, tensor.data)).toBe(true);
    expect(inspect(object).metadata).toEqual({ origin: 'test' });
  });

  test.each([...LOSSLESS, ...QUANTISING])('%s: memory that is too small is refused before any work', async (coder) => {
    const tensor = cacheLike(small, 2);
    const quality = QUANTISING.includes(coder) ? 'q4' : 'exact';
    const into = new Uint8Array(encodeBound(tensor, { coder, quality }) - 1);
    await expect(encode(tensor, { coder, quality, into })).rejects.toBeInstanceOf(RangeError);
  });

  test.each([...LOSSLESS, ...QUANTISING])('%s: an aborted call rejects with the reason of its signal', async (coder) => {
    const tensor = captureTensor(4);
    const quality = QUANTISING.includes(coder) ? 'q4' : 'exact';
    const reason = new Error('no longer wanted');
    await expect(encode(tensor, { coder, quality, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const call = encode(tensor, { coder, quality, signal: controller.signal });
    controller.abort(reason);
    await expect(call).rejects.toBe(reason);
  });

  test('many calls at once give what each gives alone', async () => {
    const tensors = Array.from({ length: 64 }, (_, seed) => cacheLike(small, seed));
    const alone: Uint8Array[] = [];
    for (const tensor of tensors) alone.push(await encode(tensor, { threads: 1 }));
    const together = await Promise.all(tensors.map((tensor) => encode(tensor)));
    together.forEach((object, i) => expect(same(object, alone[i] ?? new Uint8Array())).toBe(true));
  });

  test('shared memory is refused', async () => {
    const shared = { layout: small, data: new Uint8Array(new SharedArrayBuffer(tensorBytes(small))) };
    await expect(encode(shared)).rejects.toThrow(/not shared/);
  });

  test.each([
    ['an unknown option', { qualty: 'exact' }, /unknown option `qualty`/],
    ['an unknown rung', { quality: 'q99' }, /expected `quality`/],
    ['an unknown coder', { coder: 'gzip' }, /expected `coder`/],
    ['no tokens in a section', { groupTokens: 0 }, /expected `groupTokens`/],
    ['token ids of another length', { tokenIds: new Int32Array(3) }, /expected `tokenIds`/],
  ])('%s is a mistake of the caller', async (_, options, message) => {
    await expect(encode(cacheLike(small, 1), options as EncodeOptions)).rejects.toThrow(message);
  });

  test.each([
    ['too few bytes', small, -1],
    ['too many bytes', small, 1],
    ['no tokens', { ...small, tokens: 0 }, 0],
    ['NaN layers', { ...small, layers: NaN }, 0],
    ['blocks that do not divide the tokens', { ...small, order: 'vllm_cpu_pages' as const, blockTokens: 7 }, 0],
    ['an odd number of rotary dims', { ...small, rope: { theta: 1e4, style: 'half' as const, rotaryDims: 3 } }, 0],
  ])('a tensor with %s is refused', async (_, layout, extra) => {
    const data = new Uint8Array(Math.max(0, (Number.isNaN(layout.layers) ? 0 : tensorBytes(layout)) + extra));
    await expect(encode({ layout, data })).rejects.toBeInstanceOf(Error);
  });

  test.each([
    ['layers', { layers: 4097 }],
    ['tokens', { tokens: 2 ** 28 + 1 }],
    ['bytes', { layers: 4096, tokens: 2 ** 28 }],
  ])('a layout of more %s than the addon takes is a RangeError', (_, dimensions) => {
    expect(() => checkLayout({ ...small, ...dimensions })).toThrow(RangeError);
  });

  test('an object for another key, and one that asks for too much, are refused', async () => {
    const object = await encode(cacheLike(small, 1), { key: 'chunks/a/b' });
    await expect(decode(object, { key: 'chunks/a/c' })).rejects.toMatchObject({ code: 'KV_GEOMETRY_MISMATCH' });
    await expect(decode(object, { maxBytes: 100 })).rejects.toMatchObject({ code: 'KV_UNSUPPORTED' });
    await expect(decode(object, { key: 'chunks/a/b' })).resolves.toBeDefined();
  });
});

const PAGED: readonly LayoutOrder[] = ['vllm_cpu_pages', 'vllm_cpu_rows', 'sglang_layer_first', 'sglang_page_first'];
const shapes = fc
  .record({
    order: fc.constantFrom<LayoutOrder>('split', 'fused', 'lmcache_2ltd', 'mla', ...PAGED),
    layers: fc.integer({ min: 1, max: 3 }),
    blocks: fc.integer({ min: 1, max: 3 }),
    blockTokens: fc.integer({ min: 1, max: 9 }),
    kvHeads: fc.integer({ min: 1, max: 3 }),
    headDim: fc.constantFrom(1, 2, 3, 8, 16, 17, 32),
  })
  .map(({ order, blocks, blockTokens, kvHeads, ...rest }): KvLayout => {
    const block = order === 'vllm_cpu_rows' ? 2 * blockTokens : blockTokens;
    return { ...rest, order, dtype: 'bf16', kvHeads: order === 'mla' ? 1 : kvHeads, tokens: blocks * block, ...(PAGED.includes(order) && { blockTokens: block }) };
  });

function elementIds(layout: KvLayout): Uint8Array {
  return tensorOf(layout, (i) => i).data;
}

function ids(bytes: Uint8Array): Uint16Array {
  return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
}

function compare(original: KvTensor, decoded: KvTensor): { max: number; relativeRms: number } {
  const { dtype } = original.layout;
  let max = 0;
  let squaredError = 0;
  let squared = 0;
  const values = (tensor: KvTensor): Uint16Array | Uint32Array =>
    dtype === 'f32' ? new Uint32Array(tensor.data.slice().buffer) : new Uint16Array(tensor.data.slice().buffer);
  const was = values(original);
  values(decoded).forEach((bits, i) => {
    const value = valueOf(dtype, was[i] ?? 0);
    const error = Math.abs(valueOf(dtype, bits) - value);
    max = Math.max(max, error);
    squaredError += error * error;
    squared += value * value;
  });
  return { max, relativeRms: squared === 0 ? Math.sqrt(squaredError) : Math.sqrt(squaredError / squared) };
}
