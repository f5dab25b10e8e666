// No damage gets through, and nothing that an object says can crash the reader. The damaged objects are all that can be made from small
// ones: every bit, every length. The hostile ones are damaged and sealed again, so that checksums no longer help.
import { describe, expect, it } from 'vitest';
import { decode, inspect } from '../../../lib/codec/codec.js';
import { tensorBytes } from '../../../lib/codec/layout.js';
import { native } from '../../../lib/codec/native.js';
import { unpackHeader, type ObjectHeader } from '../../../lib/container/header.js';
import { packObjectStart, PREAMBLE_BYTES, readObject } from '../../../lib/container/object.js';
import { KvError } from '../../../lib/errors.js';
import { goldenObject } from './golden.js';

const REFUSALS: ReadonlySet<unknown> = new Set(['KV_CORRUPT_OBJECT', 'KV_UNSUPPORTED', 'KV_UNSUPPORTED_VERSION']);

/** One small object a coder. */
const OBJECTS = ['raw-bf16', 'worked', 'rans-q3-f16', 'hevc-q5', 'zstd-bytes'].map((name) => ({ name, object: goldenObject(name) }));
/** Objects of more than one section. */
const CUT = ['exact-bf16', 'rans-q6', 'hevc-q5'].map((name) => ({ name, object: goldenObject(name) }));

const MINUTE = 60_000;

/** What a reader makes of an object: `restored`, or the code that it refuses it with. Fails on any other outcome. */
async function outcome(object: Uint8Array): Promise<string> {
  try {
    const { layout, data } = await decode(object, { maxBytes: 1 << 20, threads: 1 });
    expect(data.length).toBe(tensorBytes(layout));
    return 'restored';
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (!REFUSALS.has(code)) throw error;
    return String(code);
  }
}

/** Damages that `damage` makes of a copy of `object`, one for each number below `count`, and that were not refused. */
async function acceptedDamages(object: Uint8Array, count: number, damage: (copy: Uint8Array, i: number) => Uint8Array): Promise<number[]> {
  const accepted: number[] = [];
  for (let i = 0; i < count; i++) {
    if ((await outcome(damage(object.slice(), i))) === 'restored') accepted.push(i);
  }
  return accepted;
}

function flipBit(bytes: Uint8Array, bit: number): Uint8Array {
  const byte = Math.floor(bit / 8);
  bytes[byte] = (bytes[byte] ?? 0) ^ (1 << (bit % 8));
  return bytes;
}

/** The object with the checksum of its header made right again. */
function sealHeader(object: Uint8Array): Uint8Array {
  const view = new DataView(object.buffer);
  const headerEnd = PREAMBLE_BYTES + view.getUint32(8, true);
  view.setBigUint64(16, native().xxh3(object.subarray(PREAMBLE_BYTES, headerEnd)), true);
  return object;
}

/** The object with all checksums made right again. */
function sealSections(object: Uint8Array, sectionStart: number): Uint8Array {
  const header = unpackHeader(object.subarray(PREAMBLE_BYTES, sectionStart));
  let offset = sectionStart;
  const checksums = BigUint64Array.from(header.lengths, (length) => {
    offset += length;
    return native().xxh3(object.subarray(offset - length, offset));
  });
  object.set(packObjectStart({ ...header, checksums }, object.length - sectionStart));
  return object;
}

function swapSections(object: Uint8Array, first: number, second: number): Uint8Array {
  const { header, sectionStart } = readObject(object);
  const sections: Uint8Array[] = [];
  let offset = sectionStart;
  for (const length of header.lengths) sections.push(object.slice(offset, (offset += length)));
  const order = sections.map((_, i) => (i === first ? second : i === second ? first : i));
  const swapped = order.map((i) => sections[i] ?? new Uint8Array(0));
  object.set(Buffer.concat(swapped), sectionStart);
  return object;
}

describe.each(OBJECTS)('a damaged object is refused: $name', ({ object }) => {
  const { sectionStart } = readObject(object);

  it('while it is whole, it is restored', async () => {
    expect(await outcome(object)).toBe('restored');
  });

  it('any bit of preamble or header turned', { timeout: MINUTE }, async () => {
    expect(await acceptedDamages(object, 8 * sectionStart, flipBit)).toEqual([]);
  });

  it('any byte of its sections changed', { timeout: MINUTE }, async () => {
    for (const change of [1, 0x80, 0xff]) {
      const damage = (copy: Uint8Array, i: number): Uint8Array => {
        copy[sectionStart + i] = (copy[sectionStart + i] ?? 0) ^ change;
        return copy;
      };
      expect(await acceptedDamages(object, object.length - sectionStart, damage)).toEqual([]);
    }
  });

  it('cut at any length', { timeout: MINUTE }, async () => {
    expect(await acceptedDamages(object, object.length, (copy, length) => copy.slice(0, length))).toEqual([]);
  });

  it('longer by 1 to 64 bytes', async () => {
    expect(await acceptedDamages(object, 64, (copy, i) => Uint8Array.of(...copy, ...new Uint8Array(i + 1).fill(i)))).toEqual([]);
  });

  it('with a KvError, not just a code', async () => {
    const damaged = [flipBit(object.slice(), 0), flipBit(object.slice(), 8 * object.length - 1), object.slice(0, 40)];
    for (const copy of damaged) await expect(decode(copy)).rejects.toBeInstanceOf(KvError);
  });
});

describe('an object whose sections changed places is refused:', () => {
  it.each(CUT)('$name', async ({ object }) => {
    const { header } = readObject(object);
    expect(header.lengths.length).toBeGreaterThan(1);
    for (let first = 0; first < header.lengths.length; first++) {
      for (let second = first + 1; second < header.lengths.length; second++) {
        const swapped = swapSections(object.slice(), first, second);
        if (Buffer.compare(swapped, object) !== 0) expect(await outcome(swapped)).toBe('KV_CORRUPT_OBJECT');
      }
    }
  });
});

describe('a version, a field or a coder that this reader does not know is refused with a code of its own:', () => {
  const object = goldenObject('worked');
  const { header } = readObject(object);

  it('version', async () => {
    const copy = object.slice();
    copy[4] = 2;
    expect(await outcome(copy)).toBe('KV_UNSUPPORTED_VERSION');
  });

  it('coder', async () => {
    const start = packObjectStart({ ...header, coder: 'later' }, 57);
    expect(await outcome(Uint8Array.of(...start, ...object.slice(-57)))).toBe('KV_UNSUPPORTED');
  });

  it('field', async () => {
    const text = Buffer.from(object).toString('latin1').replace('\xa5start', '\xa5other');
    expect(await outcome(sealHeader(new Uint8Array(Buffer.from(text, 'latin1'))))).toBe('KV_UNSUPPORTED');
  });
});

describe('a header that was sealed but makes no sense is refused:', () => {
  type Lie = (header: ObjectHeader) => Partial<ObjectHeader>;
  const lies: readonly [what: string, name: string, lie: Lie][] = [
    ['a start that no counter of tokens reaches', 'raw-bf16', () => ({ start: 2 ** 40 })],
    ['a start beyond what rotations are computed for', 'rans-q6', () => ({ start: 2 ** 24 })],
    ['a frequency base without bounds', 'rans-q6', ({ layout }) => ({ layout: { ...layout, rope: { theta: 1e300, style: 'half' } } })],
    ['a size that no memory holds', 'raw-bf16', ({ layout }) => ({ layout: { ...layout, layers: 2 ** 32 - 1, tokens: 2 ** 32 - 1 } })],
    ['no tokens', 'raw-bf16', ({ layout }) => ({ layout: { ...layout, tokens: 0 } })],
    ['a half head', 'worked', ({ layout }) => ({ layout: { ...layout, headDim: 1.5 } })],
    ['a rung by its other name', 'rans-q6', () => ({ rung: 'near' })],
    ['a rung that its coder does not have', 'worked', () => ({ rung: 'q4' })],
    ['token ids for other tokens', 'rans-q6', () => ({ tokenIds: new Int32Array(3) })],
    ['groups longer than the chunk', 'worked', () => ({ groupTokens: 33 })],
    ['more sections than the coder makes', 'worked', () => ({ lengths: Uint32Array.of(57, 0), checksums: BigUint64Array.of(0n, 0n) })],
    ['side information for a coder that has none', 'raw-bf16', () => ({ model: new Uint8Array(5) })],
    ['side information cut short', 'worked', ({ model }) => ({ model: model.subarray(0, 40) })],
  ];

  it.each(lies)('%s', async (_, name, lie) => {
    const object = goldenObject(name);
    const { header, sectionStart } = readObject(object);
    const sections = object.subarray(sectionStart);
    const start = packObjectStart({ ...header, ...lie(header) }, sections.length);
    expect(await outcome(Uint8Array.of(...start, ...sections))).toBe('KV_CORRUPT_OBJECT');
  });
});

// What such an object decodes to is anybody's guess, but it is a tensor or a refusal.
describe.each(OBJECTS)('a hostile object ends in a tensor or a refusal: $name', ({ object }) => {
  const { sectionStart } = readObject(object);

  it('any bit of the header turned, and sealed again', { timeout: MINUTE }, async () => {
    for (let bit = 8 * PREAMBLE_BYTES; bit < 8 * sectionStart; bit++) await outcome(sealHeader(flipBit(object.slice(), bit)));
  });

  it('any byte of its sections changed, and sealed again', { timeout: MINUTE }, async () => {
    for (let at = sectionStart; at < object.length; at++) {
      for (const value of [0, 0xff, (object[at] ?? 0) ^ 1]) {
        const copy = object.slice();
        copy[at] = value;
        await outcome(sealSections(copy, sectionStart));
      }
    }
  });

  it('header turned: `inspect` agrees that it is one or the other', () => {
    for (let bit = 8 * PREAMBLE_BYTES; bit < 8 * sectionStart; bit += 7) {
      try {
        inspect(sealHeader(flipBit(object.slice(), bit)));
      } catch (error) {
        if (!REFUSALS.has((error as { code?: unknown }).code)) throw error;
      }
    }
  });
});
