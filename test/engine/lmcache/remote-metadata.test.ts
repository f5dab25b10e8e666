import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MEMORY_FORMATS, metadataBytesBefore, packRemoteMetadata, parseRemoteMetadata, type RemoteMetadata } from '../../../connectors/engine/lmcache/remote-metadata.js';
import { goldenObjects } from './golden.js';

const int32s = (...values: number[]): Uint8Array => new Uint8Array(Int32Array.from(values).buffer);
const codeOf = (work: () => unknown): unknown => {
  try {
    work();
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
  return undefined;
};

describe('metadata that LMCache wrote', () => {
  it.each(goldenObjects('fs').map(({ stored, bytes }) => [stored, bytes] as const))('is read, and written back byte for byte: %s', (_, bytes) => {
    const start = metadataBytesBefore(bytes, bytes.length);
    const metadata = parseRemoteMetadata(bytes.subarray(0, start));
    expect(metadata.length).toBe(bytes.length - start);
    expect(Buffer.from(packRemoteMetadata(metadata))).toEqual(bytes.subarray(0, start));
  });

  it('says what the tensor is', () => {
    const [partial] = goldenObjects('fs').filter(({ stored }) => stored.includes('f815@'));
    expect(parseRemoteMetadata(partial?.bytes.subarray(0, 28) ?? new Uint8Array())).toEqual({ length: 160, format: 'KV_2LTD', groups: [{ dtype: 'bfloat16', shape: [2, 2, 5, 4] }] });
  });
});

describe('other metadata', () => {
  it('of several groups, short shapes and codecs is read', () => {
    expect(parseRemoteMetadata(int32s(2 * 3 * 4 * 5 * 2 + 16, 1, 3, 2, 3, 4, 5, 4, 4, 0, 0, 0))).toEqual({
      length: 256,
      format: 'KV_2LTD',
      groups: [
        { dtype: 'bfloat16', shape: [2, 3, 4, 5] },
        { dtype: 'float', shape: [4] },
      ],
    });
    expect(parseRemoteMetadata(int32s(99, 5, 0, 99, 0, 0, 0))).toEqual({ length: 99, format: 'BINARY_BUFFER', groups: [{ dtype: undefined, shape: [99] }] });
    expect(parseRemoteMetadata(int32s(2, 1, 1, 1, 1, 1, 1)).groups[0]?.dtype).toBe('half');
  });

  it.each([
    ['nothing', new Uint8Array(), 'KV_CORRUPT_OBJECT'],
    ['too few bytes', int32s(0, 1, 3, 1, 1, 1), 'KV_CORRUPT_OBJECT'],
    ['a byte too many', new Uint8Array(29), 'KV_CORRUPT_OBJECT'],
    ['a length that is not that of the tensor', int32s(65, 1, 3, 2, 2, 2, 4), 'KV_CORRUPT_OBJECT'],
    ['a negative length', int32s(-64, 1, 3, -2, 2, 2, 4), 'KV_CORRUPT_OBJECT'],
    ['two negative dimensions', int32s(64, 1, 3, -2, -2, 2, 4), 'KV_CORRUPT_OBJECT'],
    ['a dimension of none in the middle', int32s(0, 1, 3, 2, 0, 2, 4), 'KV_CORRUPT_OBJECT'],
    ['no dimension', int32s(0, 1, 3, 0, 0, 0, 0), 'KV_CORRUPT_OBJECT'],
    ['immense dimensions', int32s(64, 1, 3, 2 ** 31 - 1, 2 ** 31 - 1, 2 ** 31 - 1, 2 ** 31 - 1), 'KV_CORRUPT_OBJECT'],
    ['dimensions whose product is the length modulo 2^32', int32s(0, 1, 6, 65536, 65536, 1, 1), 'KV_CORRUPT_OBJECT'],
    ['no dtype', int32s(4, 1, 0, 4, 0, 0, 0), 'KV_CORRUPT_OBJECT'],
    ['an unknown dtype', int32s(4, 1, 9, 4, 0, 0, 0), 'KV_UNSUPPORTED'],
    ['a negative dtype', int32s(4, 1, -1, 4, 0, 0, 0), 'KV_UNSUPPORTED'],
    ['an unknown format', int32s(4, 9, 6, 4, 0, 0, 0), 'KV_UNSUPPORTED'],
    ['a negative format', int32s(4, -1, 6, 4, 0, 0, 0), 'KV_UNSUPPORTED'],
  ])('with %s is refused with a code', (_, bytes, code) => {
    expect(codeOf(() => parseRemoteMetadata(bytes))).toBe(code);
  });

  it('is refused with a code or written back, whatever the bytes', () => {
    const values = fc.array(fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })), { maxLength: 13 }).map((list) => int32s(...list));
    fc.assert(
      fc.property(fc.oneof(values, fc.uint8Array({ maxLength: 70 })), (bytes) => {
        let metadata: RemoteMetadata | undefined;
        const code = codeOf(() => (metadata = parseRemoteMetadata(bytes)));
        if (metadata === undefined) expect(code).toMatch(/^KV_(CORRUPT_OBJECT|UNSUPPORTED)$/);
        else expect(parseRemoteMetadata(packRemoteMetadata(metadata))).toEqual(metadata);
      }),
      { numRuns: 5000 },
    );
  });

  it('of any tensor is read as it was written', () => {
    const group = fc.record({ dtype: fc.constantFrom('half', 'bfloat16', 'float', 'double', 'uint8', 'fp8_e4m3fn', 'fp8_e5m2'), shape: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 4 }) });
    const bytes = { half: 2, bfloat16: 2, float: 4, double: 8, uint8: 1, fp8_e4m3fn: 1, fp8_e5m2: 1 };
    const any = fc.record({ format: fc.constantFrom(...MEMORY_FORMATS), groups: fc.array(group, { minLength: 1, maxLength: 3 }) });
    fc.assert(
      fc.property(any, ({ format, groups }) => {
        const length = groups.reduce((sum, { dtype, shape }) => sum + shape.reduce((product, size) => product * size, bytes[dtype as keyof typeof bytes]), 0);
        const metadata = { length, format, groups } as RemoteMetadata;
        expect(parseRemoteMetadata(packRemoteMetadata(metadata))).toEqual(metadata);
      }),
    );
  });
});

describe('where the data begin', () => {
  it.each([
    ['no bytes', new Uint8Array()],
    ['fewer than a length', new Uint8Array(7)],
    ['a length of all bytes', int32s(28, 1, 3, 1, 1, 1, 1)],
    ['a length of more', int32s(2 ** 31 - 1, 1, 3, 1, 1, 1, 1)],
    ['a negative length', int32s(-20, 1, 3, 1, 1, 1, 1)],
    ['a length that leaves no whole group', int32s(1, 1, 3, 1, 1, 1, 1)],
  ])('is refused with a code: %s', (_, bytes) => {
    expect(codeOf(() => metadataBytesBefore(bytes, bytes.length))).toBe('KV_CORRUPT_OBJECT');
  });
});
