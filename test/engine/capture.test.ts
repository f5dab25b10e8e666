import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { decode, encode, inspect, unpackLayout, type KvLayout } from '../../lib/index.js';
import { HEADER_FIELD, readCapture, writeCapture } from '../../connectors/engine/capture/capture.js';
import { parseDirectory, type SafetensorsFile } from '../../connectors/engine/capture/safetensors.js';
import { fileBytes, noise, partsOf, type TestTensor } from './safetensors-bytes.js';

const REAL = readFileSync(join(import.meta.dirname, '../../fixtures/captures/smollm2-gpl3-t0-256.safetensors'));

function fileOf(bytes: Uint8Array): SafetensorsFile {
  const buffer = Buffer.from(bytes);
  const headerEnd = 8 + Number(buffer.readBigUInt64LE(0));
  const header = buffer.subarray(8, headerEnd);
  return { name: 'x.safetensors', header, directory: parseDirectory(header, 'x.safetensors'), data: new Uint8Array(buffer.subarray(headerEnd)) };
}

function made(tensors: readonly TestTensor[], metadata?: Record<string, string>): Buffer {
  const { header, data } = partsOf(tensors, metadata);
  return fileBytes(header, data);
}

function plane(name: string, shape: readonly number[] = [2, 5, 8], dtype = 'BF16'): TestTensor {
  const bytes = { BF16: 2, F32: 4, F64: 8, I8: 1, U8: 1, F8_E4M3: 1 }[dtype] ?? 2;
  return { name, dtype, shape, bytes: noise(bytes * shape.reduce((a, b) => a * b, 1), name.length + (name.charCodeAt(7) || 0)) };
}

const ids = (tokens: number, dtype = 'I32'): TestTensor => {
  const bytes = Buffer.alloc(tokens * (dtype === 'I64' ? 8 : 4));
  for (let i = 0; i < tokens; i++) dtype === 'I64' ? bytes.writeBigInt64LE(BigInt(i * 7), 8 * i) : bytes.writeInt32LE(i * 7, 4 * i);
  return { name: 'token_ids', dtype, shape: [tokens], bytes };
};

/** Encodes, decodes and puts together again. */
async function roundTrip(bytes: Uint8Array): Promise<Buffer> {
  const capture = readCapture(fileOf(bytes));
  const { tensor, notUnderstood: _, ...stored } = capture;
  const object = await encode(tensor, { ...stored, groupTokens: 64 });
  const { tokenIds, metadata = {} } = inspect(object);
  const pieces = writeCapture({ tensor: await decode(object), metadata, ...(tokenIds && { tokenIds }) });
  return fileBytes(pieces.header, Buffer.concat(pieces.data));
}

describe('a real capture', () => {
  it('is a view of the file, with RoPE, start, tokens and text', () => {
    const file = fileOf(REAL);
    const capture = readCapture(file);
    expect(capture.tensor.data.buffer).toBe(file.data.buffer);
    expect(capture.tensor.layout).toEqual({ order: 'split', dtype: 'bf16', layers: 30, tokens: 256, kvHeads: 3, headDim: 64, rope: { theta: 100000, style: 'half' } });
    expect(capture.tensor.start).toBe(0);
    expect(capture.tokenIds).toHaveLength(256);
    expect(capture.metadata.model).toBe('smollm2-135m');
    expect(capture.notUnderstood).toBeUndefined();
  });

  it('comes back as the same file', async () => {
    expect(Buffer.compare(await roundTrip(REAL), REAL)).toBe(0);
  });
});

describe('a capture comes back as the same file', () => {
  const layer = (i: number, shape?: readonly number[], dtype?: string) => [plane(`layers.${i}.k`, shape, dtype), plane(`layers.${i}.v`, shape, dtype)];
  const understood: [string, TestTensor[]][] = [
    ['in another order', [ids(5), ...layer(1), ...layer(0).reverse()]],
    ['in the order of names', [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9].flatMap((i) => layer(i))],
    ['without token ids', layer(0)],
    ['with token ids of torch', [...layer(0), ids(5, 'I64')]],
    ['of fp8', layer(0, [2, 5, 8], 'F8_E4M3')],
    ['of f32', layer(0, [2, 5, 8], 'F32')],
    ['with odd dims', layer(0, [1, 3, 7])],
    ['with one latent plane a layer', [plane('layers.0.k', [1, 5, 40]), plane('layers.1.k', [1, 5, 40])]],
  ];
  it.each(understood)('%s', async (_, tensors) => {
    const bytes = made(tensors, { model: 'm', rope_theta: '1e4', start: '12' });
    expect(readCapture(fileOf(bytes)).notUnderstood).toBeUndefined();
    expect(Buffer.compare(await roundTrip(bytes), bytes)).toBe(0);
  });

  it.each([
    ['10000', 10000],
    ['[1e4, 1000000.0]', [1e4, 1e6]],
    ['[10000]', 10000],
    ['[1, 2, 3]', undefined],
    ['NaN', undefined],
    ['0.5', undefined],
    ['', undefined],
  ])('rope_theta %j is read as %j', (text, theta) => {
    const { tensor } = readCapture(fileOf(made([...layer(0), ...layer(1)], { rope_theta: text })));
    expect(tensor.layout.rope?.theta).toEqual(theta);
  });

  const notUnderstood: [string, TestTensor[]][] = [
    ['layers differ in shape', [...layer(0), ...layer(1, [2, 3, 8])]],
    ['layers differ in dtype', [...layer(0), ...layer(1, [2, 5, 8], 'F32')]],
    ['K and V differ', [plane('layers.0.k'), plane('layers.0.v', [2, 5, 16])]],
    ['one layer has no V', [...layer(0), plane('layers.1.k')]],
    ['no layer has V, and several heads', [plane('layers.0.k'), plane('layers.1.k')]],
    ['a layer is missing', [...layer(0), ...layer(2)]],
    ['the first layer is missing', layer(1)],
    ['there is another tensor', [...layer(0), plane('layers.0.q')]],
    ['there is only one tensor more, of odd length', [...layer(0), { ...plane('x', [3], 'U8') }]],
    ['the planes have four dims', layer(0, [2, 5, 2, 4])],
    ['the planes are empty', layer(0, [2, 0, 8])],
    ['the dtype is no KV dtype', layer(0, [2, 5, 8], 'I8')],
    ['the token ids are of another length', [...layer(0), ids(4)]],
    ['the token ids are no list', [...layer(0), plane('token_ids', [5], 'U8')]],
    ['a head is a single number wide', layer(0, [2, 5, 1]).concat(plane('y'))],
  ];
  it.each(notUnderstood)('as bytes where %s', async (_, tensors) => {
    const bytes = made(tensors, { model: 'm' });
    const capture = readCapture(fileOf(bytes));
    expect(capture.notUnderstood).toBeTruthy();
    expect(capture.tensor.layout.order).toBe('bytes');
    expect(Buffer.compare(await roundTrip(bytes), bytes)).toBe(0);
  });

  it('with any spelling of its header', async () => {
    const { header, data } = partsOf(layer(0), { model: '\u2028', odd: 'ä' });
    const spelled = fileBytes(`${JSON.stringify(JSON.parse(header.toString()), undefined, 3)}      `, data);
    expect(Buffer.compare(await roundTrip(spelled), spelled)).toBe(0);
  });

  it('where its metadata has names of another purpose', async () => {
    const bytes = made(layer(0), { [HEADER_FIELD]: 'x', constructor: 'y', '7': 'z' });
    expect(Buffer.compare(await roundTrip(bytes), bytes)).toBe(0);
  });
});

describe('what is refused', () => {
  it.each([
    ['a file without KV', [plane('model.embed_tokens.weight', [4, 4])], {}],
    ['an empty file', [], {}],
    ['a start that is none', [plane('layers.0.k', [1, 2, 8])], { start: '-3' }],
  ] as [string, TestTensor[], Record<string, string>][])('%s', (_, tensors, metadata) => {
    expect(() => readCapture(fileOf(made(tensors, metadata)))).toThrow(expect.objectContaining({ code: 'KV_INVALID_INPUT' }));
  });

  it('token ids beyond 32 bits', () => {
    const bytes = Buffer.alloc(16);
    bytes.writeBigInt64LE(2n ** 40n);
    expect(() => readCapture(fileOf(made([plane('layers.0.k', [1, 2, 8]), { name: 'token_ids', dtype: 'I64', shape: [2], bytes }])))).toThrow(
      expect.objectContaining({ code: 'KV_INVALID_INPUT' }),
    );
  });
});

describe('a stored capture', () => {
  const layout: KvLayout = { order: 'split', dtype: 'bf16', layers: 2, tokens: 5, kvHeads: 2, headDim: 8 };
  const tensor = { layout, data: noise(2 * 2 * 2 * 5 * 8 * 2), start: 3 };

  it('that never was a file becomes one, from any layout', () => {
    const tokenIds = Int32Array.of(1, 2, 3, 4, 5);
    const direct = writeCapture({ tensor, tokenIds, metadata: { model: 'm' } });
    const { tensors, metadata } = parseDirectory(direct.header, 'x');
    expect(tensors.map(({ name, shape }) => [name, shape])).toEqual([
      ...['layers.0.k', 'layers.0.v', 'layers.1.k', 'layers.1.v'].map((name) => [name, [2, 5, 8]]),
      ['token_ids', [5]],
    ]);
    expect(metadata).toEqual({ model: 'm', start: '3' });
    const fused = unpackLayout(tensor, { ...layout, order: 'fused' });
    expect(Buffer.concat(writeCapture({ tensor: fused, tokenIds, metadata: {} }).data)).toEqual(Buffer.concat(direct.data));
  });

  const real = readCapture(fileOf(made([plane('layers.0.k'), plane('layers.0.v')])));
  const header = real.metadata[HEADER_FIELD] ?? '';
  it.each([
    ['of another tensor', { tensor, metadata: { [HEADER_FIELD]: header } }],
    ['that is not deflated', { tensor: real.tensor, metadata: { [HEADER_FIELD]: 'AAAA' } }],
    ['that is no header', { tensor: real.tensor, metadata: { [HEADER_FIELD]: 'S0xKBgA=' } }],
    ['that is longer than the bytes', { tensor: { layout: { ...layout, order: 'bytes', layers: 1, kvHeads: 1 } as const, data: noise(80) }, metadata: { [HEADER_FIELD]: header } }],
  ])('with a header %s is corrupt', (_, stored) => {
    expect(() => writeCapture(stored)).toThrow(expect.objectContaining({ code: 'KV_CORRUPT_OBJECT' }));
  });

  it('of bytes without a header cannot become a file', () => {
    const bytes = { layout: { ...layout, order: 'bytes', layers: 1, kvHeads: 1 } as const, data: noise(80) };
    expect(() => writeCapture({ tensor: bytes, metadata: {} })).toThrow(expect.objectContaining({ code: 'KV_UNSUPPORTED' }));
  });
});
