import { describe, expect, it } from 'vitest';
import { formatHeader, parseDirectory } from '../../connectors/engine/capture/safetensors.js';

const parse = (header: string | Uint8Array) => parseDirectory(Buffer.from(header), 'x.safetensors');
const entry = (fields: Record<string, unknown>) => JSON.stringify({ a: { dtype: 'U8', shape: [2], data_offsets: [0, 2], ...fields } });

describe('a safetensors header', () => {
  it('is read in the order of the bytes, with its metadata', () => {
    const directory = parse('{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},"__metadata__":{"m":"1"},"a":{"dtype":"I32","shape":[],"data_offsets":[0,4]}}   ');
    expect(directory.tensors.map(({ name, begin, end }) => [name, begin, end])).toEqual([['a', 0, 4], ['b', 4, 16]]);
    expect(directory.metadata).toEqual({ m: '1' });
    expect(directory.dataBytes).toBe(16);
  });

  it('may have no tensor, and tensors of no bytes', () => {
    expect(parse('{}').dataBytes).toBe(0);
    expect(parse(entry({ shape: [0, 5], data_offsets: [0, 0] })).tensors).toHaveLength(1);
  });

  it('that we write is read as it was meant', () => {
    const tensors = [{ name: 'layers.0.k', dtype: 'F16', shape: [1, 2], begin: 0, end: 4 }];
    const header = formatHeader(tensors, { model: 'ä"\n' });
    expect(header.length % 8).toBe(0);
    expect(parseDirectory(header, 'x')).toEqual({ tensors, metadata: { model: 'ä"\n' }, dataBytes: 4 });
  });

  it.each([
    ['no JSON', 'hello'],
    ['nothing', ''],
    ['a list', '[]'],
    ['null', 'null'],
    ['cut JSON', '{"a":'],
    ['a byte order mark', '\ufeff{}'],
    ['bytes that are no UTF-8', Uint8Array.of(0x7b, 0xff, 0x7d)],
    ['NaN in a shape', '{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,0]}}'],
    ['an infinite shape', '{"a":{"dtype":"U8","shape":[1e999],"data_offsets":[0,0]}}'],
    ['a negative shape', entry({ shape: [-2] })],
    ['two negative sizes', entry({ shape: [-2, -1] })],
    ['a broken shape', entry({ shape: [1.5] })],
    ['a huge shape', entry({ shape: [2 ** 53] })],
    ['a shape whose product is too large', entry({ shape: [2 ** 40, 2 ** 40] })],
    ['a shape of text', entry({ shape: ['2'] })],
    ['no shape', entry({ shape: undefined })],
    ['an unknown dtype', entry({ dtype: 'U9' })],
    ['a dtype of every object', entry({ dtype: 'constructor' })],
    ['no dtype', entry({ dtype: undefined })],
    ['a dtype that does not fit the length', entry({ dtype: 'F32' })],
    ['offsets backwards', entry({ data_offsets: [2, 0] })],
    ['three offsets', entry({ data_offsets: [0, 2, 2] })],
    ['no offsets', entry({ data_offsets: undefined })],
    ['an unknown field', entry({ colour: 'red' })],
    ['a tensor that is no map', '{"a":5}'],
    ['a gap before the first tensor', entry({ data_offsets: [1, 3] })],
    ['a gap', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}'],
    ['an overlap', '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}'],
    ['the same bytes twice', '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'],
    ['a name twice', '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}, "\\u0061" : {"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'],
    ['a field twice', '{"a":{"dtype":"U8","shape":[2],"shape":[2],"data_offsets":[0,2]}}'],
    ['metadata of numbers', '{"__metadata__":{"a":5}}'],
    ['metadata that is no map', '{"__metadata__":"a"}'],
  ])('is refused with a code where it has %s', (_, header) => {
    expect(() => parse(header)).toThrow(expect.objectContaining({ code: 'KV_INVALID_INPUT', message: expect.stringContaining('x.safetensors') }));
  });

  it('does not mind what hostile names do elsewhere', () => {
    const directory = parse('{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"__metadata__":{"__proto__":"x"}}');
    expect(directory.tensors[0]?.name).toBe('__proto__');
    expect(Object.entries(directory.metadata)).toEqual([['__proto__', 'x']]);
  });

  it('of great length or depth is refused or read, never a crash', () => {
    expect(() => parse('['.repeat(1_000_000))).toThrow(expect.objectContaining({ code: 'KV_INVALID_INPUT' }));
    expect(() => parse(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`)).toThrow(expect.objectContaining({ code: 'KV_INVALID_INPUT' }));
    expect(parse(`{"__metadata__":{"a":"${'\\"x'.repeat(1_000_000)}"}}`).dataBytes).toBe(0);
  });
});
