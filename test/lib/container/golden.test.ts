// Objects that were written once have to decode to the same bytes for ever, on every machine and in every later version.
import { createHash } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { goldenCases } from '../../../fixtures/containers/tensors.js';
import { decode, inspect } from '../../../lib/codec/codec.js';
import { CODER_NAMES } from '../../../lib/codec/coders/registry.js';
import { native } from '../../../lib/codec/native.js';
import { goldenObject, goldenSums } from './golden.js';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const sums = goldenSums();

describe('golden objects', () => {
  afterEach(() => native().forceScalar(false));

  it('are there for every coder, each listed and made from a case', () => {
    const names = goldenCases().map(({ name }) => name);
    expect(Object.keys(sums).sort()).toEqual([...names].sort());
    expect(new Set(names.map((name) => inspect(goldenObject(name)).coder))).toEqual(new Set(CODER_NAMES));
  });

  describe.each(goldenCases())('$name', ({ name, tensor, options }) => {
    it('is the file that was first written', () => {
      expect(sha256(goldenObject(name))).toBe(sums[name]?.object_sha256);
    });

    it.each([false, true])('decodes to the same bytes (scalar: %s)', async (isScalar) => {
      native().forceScalar(isScalar);
      const { data, layout, start } = await decode(goldenObject(name));
      expect({ layout, start }).toEqual({ layout: tensor.layout, start: tensor.start ?? 0 });
      expect(sha256(data)).toBe(sums[name]?.tensor_sha256);
    });

    it('says in its header what it was made of', () => {
      const { coder, rung, key, tokenIds, metadata, error } = inspect(goldenObject(name));
      expect({ coder, rung, key, tokenIds, metadata }).toEqual({
        coder: options.coder,
        rung: options.quality ?? 'exact',
        key: options.key ?? '',
        tokenIds: options.tokenIds,
        metadata: options.metadata,
      });
      expect(error === undefined).toBe(rung === 'exact');
    });

    it('is what it was made from, if it is exact', async () => {
      const { data } = await decode(goldenObject(name));
      expect(Buffer.compare(data, tensor.data) === 0).toBe((options.quality ?? 'exact') === 'exact');
    });
  });
});
