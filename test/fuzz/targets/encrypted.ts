// An encrypted value as somebody who has no key may have left it: it opens to what was sealed, or not at all.
import { encrypted } from '../../../connectors/storage/encrypted.js';
import { HEADER_BYTES, packHeader, parseHeader } from '../../../connectors/storage/encrypted/format.js';
import { memory } from '../../../connectors/storage/memory.js';
import { mutateBytes } from '../mutate.js';
import { expectSame, expectThat, refusal, type FuzzTarget } from '../target.js';

const KEY = 'chunks/fuzz';
const KEYS = { keys: { a: '11'.repeat(32), b: '22'.repeat(32) }, writeKeyId: 'a' };
/** Values by their length, so that what opens can be compared. */
const valueOf = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 31 + length) & 0xff);

const inner = memory();
const sealedStore = encrypted(inner, KEYS);

export const encryptedValue: FuzzTarget = {
  name: 'encrypted',

  async seeds() {
    const seeds: Record<string, Uint8Array> = {};
    for (const length of [0, 1, 100, 3000]) {
      await sealedStore.put(KEY, valueOf(length));
      seeds[`of-${length}`] = (await inner.get(KEY)) ?? new Uint8Array(0);
    }
    return seeds;
  },

  // A header that says something else about the same segment.
  reshape(input, random) {
    return Buffer.concat([mutateBytes(input.subarray(0, HEADER_BYTES), [], random), input.subarray(HEADER_BYTES)]);
  },

  async meet(input) {
    try {
      const header = parseHeader(input, KEY);
      expectSame(packHeader(header), input.subarray(0, HEADER_BYTES), 'a header and what is written for it again');
    } catch (error) {
      refusal(error, ['KV_CORRUPT_OBJECT', 'KV_UNSUPPORTED_VERSION']);
    }
    await inner.put(KEY, input);
    const outcomes = [await open({}), await open({ range: { offset: 1, length: 50 } })];
    return outcomes[0] ?? '';
  },
};

async function open(options: { range?: { offset: number; length: number } }): Promise<string> {
  try {
    const opened = (await sealedStore.get(KEY, options)) ?? new Uint8Array(0);
    // What is told by range alone: the bytes of one of the values that were sealed.
    const isSealed = [0, 1, 100, 3000].some((length) => Buffer.compare(opened, options.range === undefined ? valueOf(length) : valueOf(length).subarray(1, 51)) === 0);
    expectThat(isSealed, 'what opens is what was sealed');
    return 'accepted';
  } catch (error) {
    return refusal(error, ['KV_CORRUPT_OBJECT', 'KV_UNSUPPORTED', 'KV_UNSUPPORTED_VERSION']);
  }
}
