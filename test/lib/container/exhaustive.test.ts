// One small real object of each coder, damaged in every way of its size, through each public face. Every damage has to be refused with a
// code, and no decoder may have run before the checksum of what it reads was found right: memory that is decoded into stays as it was.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { memory } from '../../../connectors/storage/memory.js';
import { CODER_NAMES, decode, encode, KvStore, packLayout, type KvTensor } from '../../../lib/index.js';
import { packObjectStart, readObject } from '../../../lib/container/object.js';
import { KvError } from '../../../lib/errors.js';
import { chunkKey } from '../../../lib/store/namespace.js';
import { CAPTURE } from '../tensors.js';

const MINUTES = 60_000;
const MAX_SECTION_BYTES = 4096;
const HASH = 'ab'.repeat(32);

/** Tokens from the sixth on of the first head of the first layers of a real capture. */
function realTensor(layers: number, tokens: number): KvTensor {
  const file = readFileSync(CAPTURE);
  const data = file.subarray(8 + Number(file.readBigUInt64LE(0)));
  const planeBytes = 3 * 256 * 64 * 2;
  const rows = Array.from({ length: 2 * layers }, (_, plane) => data.subarray(plane * planeBytes + 5 * 128, plane * planeBytes + (5 + tokens) * 128));
  return { layout: { order: 'split', dtype: 'bf16', layers, tokens, kvHeads: 1, headDim: 64 }, data: new Uint8Array(Buffer.concat(rows)), start: 5 };
}

interface Sample {
  readonly coder: string;
  readonly tensor: KvTensor;
  readonly store: KvStore;
  readonly key: string;
  readonly object: Uint8Array;
  readonly sectionStart: number;
  readonly connector: ReturnType<typeof memory>;
  readonly reasons: unknown[];
}

const qualityOf = (coder: string): string => (coder === 'rans' || coder === 'hevc' ? 'q4' : 'exact');

/** An object as a store keeps it, and the store. */
async function sampleOf(coder: string, layers: number, tokens: number, groupTokens: number): Promise<Sample> {
  const tensor = realTensor(layers, tokens);
  const { tokens: _, ...geometry } = tensor.layout;
  const connector = memory();
  const reasons: unknown[] = [];
  const onCorrupt = (error: Error): void => void reasons.push(error instanceof KvError ? error.code : error);
  const store = new KvStore({ connector, namespace: { model: 'real', geometry, quality: qualityOf(coder) }, coder, groupTokens, threads: 1, onCorrupt });
  await store.put(HASH, tensor);
  const key = chunkKey(store.namespace, HASH);
  const object = (await connector.get(key)) ?? new Uint8Array(0);
  return { coder, tensor, store, key, object, sectionStart: readObject(object).sectionStart, connector, reasons };
}

/** Objects of one section: no other one may be decoded before the damage is seen. */
const SAMPLES = await Promise.all(CODER_NAMES.map((coder) => sampleOf(coder, 1, 2, 2)));
/** Objects of several sections. */
const CUT_SAMPLES = await Promise.all(CODER_NAMES.filter((coder) => coder !== 'zstd').map((coder) => sampleOf(coder, 2, 2, 1)));

const CODES: ReadonlySet<unknown> = new Set(['KV_CORRUPT_OBJECT', 'KV_UNSUPPORTED_VERSION', 'KV_UNSUPPORTED', 'KV_GEOMETRY_MISMATCH']);
const UNTOUCHED = 0xa5;

/** A way to damage an object; `count` of them. */
interface Damages {
  readonly count: number;
  make(object: Uint8Array, i: number): Uint8Array;
}

function flipped(object: Uint8Array, bit: number): Uint8Array {
  const copy = object.slice();
  copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return copy;
}

const headerBits = ({ sectionStart }: Sample): Damages => ({ count: 8 * sectionStart, make: flipped });
const lengths = ({ object }: Sample): Damages => ({ count: object.length, make: (whole, length) => whole.slice(0, length) });
const extensions: Damages = { count: 64, make: (object, i) => Uint8Array.of(...object, ...new Uint8Array(i + 1).fill(i)) };
/** A bit of every byte, each time another one. */
const sectionBytes = ({ object, sectionStart }: Sample): Damages => ({ count: object.length - sectionStart, make: (whole, i) => flipped(whole, 8 * (sectionStart + i) + (i % 8)) });
/** All 255 other values of every byte. */
const sectionValues = ({ object, sectionStart }: Sample): Damages => ({
  count: 255 * (object.length - sectionStart),
  make(whole, i) {
    const copy = whole.slice();
    const at = sectionStart + Math.floor(i / 255);
    copy[at] = ((copy[at] ?? 0) + 1 + (i % 255)) & 0xff;
    return copy;
  },
});

/** Damages that a face did not refuse, or not as it should. Several at a time: the decoders run on threads. */
async function unrefused({ object }: Sample, { count, make }: Damages, isRefused: (damaged: Uint8Array) => Promise<boolean>): Promise<number[]> {
  const accepted: number[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) {
      const i = next++;
      if (!(await isRefused(make(object, i)))) accepted.push(i);
    }
  };
  await Promise.all(Array.from({ length: 32 }, lane));
  return accepted;
}

/** Whether `decode` refuses with a coded error and has written nothing. */
function refusedByDecode({ tensor, key }: Sample): (damaged: Uint8Array) => Promise<boolean> {
  const clean = new Uint8Array(tensor.data.length).fill(UNTOUCHED);
  return async (damaged) => {
    const into = clean.slice();
    try {
      await decode(damaged, { into, threads: 1, key });
      return false;
    } catch (error) {
      return error instanceof KvError && CODES.has(error.code) && Buffer.compare(into, clean) === 0;
    }
  };
}

describe.each(SAMPLES)('coder $coder', (sample) => {
  const { object, sectionStart, tensor, connector, key, store, reasons } = sample;

  it('made a small object of one section, which is restored', async () => {
    expect(readObject(object).header.lengths).toHaveLength(1);
    expect(object.length - sectionStart).toBeLessThanOrEqual(MAX_SECTION_BYTES);
    expect(object.length - sectionStart).toBeGreaterThan(50);
    expect(await refusedByDecode(sample)(object)).toBe(false);
    expect((await store.fetch(HASH))?.layout).toEqual(tensor.layout);
  });

  it.each<[string, Damages]>([
    ['every bit of preamble, header and section table', headerBits(sample)],
    ['every length', lengths(sample)],
    ['1 to 64 bytes more', extensions],
    ['every other value of every byte of the sections', sectionValues(sample)],
  ])('decode refuses %s before a decoder has run', { timeout: 5 * MINUTES }, async (_, damages) => {
    expect(await unrefused(sample, damages, refusedByDecode(sample))).toEqual([]);
  });

  // The sections can be decoded: would a decoder run first, the tensor would be there. The header is sealed, and only their checksum is wrong.
  it('decode refuses sections that can be decoded and have the wrong checksum, and has not decoded them', async () => {
    const { header } = readObject(object);
    const clean = new Uint8Array(tensor.data.length).fill(UNTOUCHED);
    for (let bit = 0n; bit < 64n; bit++) {
      const start = packObjectStart({ ...header, checksums: header.checksums.map((checksum) => checksum ^ (1n << bit)) }, object.length - sectionStart);
      const into = clean.slice();
      await expect(decode(Uint8Array.of(...start, ...object.subarray(sectionStart)), { into })).rejects.toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
      expect(Buffer.compare(into, clean)).toBe(0);
    }
    const into = clean.slice();
    await decode(object, { into });
    expect(into.every((byte) => byte === UNTOUCHED)).toBe(false);
  });

  it.each<[string, Damages]>([
    ['every bit of preamble, header and section table', headerBits(sample)],
    ['every length', lengths(sample)],
    ['1 to 64 bytes more', extensions],
    ['every byte of the sections', sectionBytes(sample)],
  ])('KvStore.fetch takes %s for a miss and says why', { timeout: 5 * MINUTES }, async (_, { count, make }) => {
    for (let i = 0; i < count; i++) {
      await connector.put(key, make(object, i));
      reasons.length = 0;
      expect(await store.fetch(HASH), String(i)).toBeUndefined();
      expect(CODES.has(reasons[0]), `${i}: ${String(reasons[0])}`).toBe(true);
    }
    await connector.put(key, object);
  });

  it('readObject refuses every bit and every length of the header', () => {
    const damaged = [...Array(8 * sectionStart).keys()].map((bit) => flipped(object, bit)).concat([...Array(object.length).keys()].map((length) => object.slice(0, length)));
    for (const copy of damaged) expect(() => readObject(copy)).toThrow(KvError);
  });

  it("another key's object is refused, by name and in its place", async () => {
    const other = await encode(tensor, { coder: sample.coder, quality: qualityOf(sample.coder), key: key.replace(/ab$/, 'ac') });
    await expect(decode(other, { key })).rejects.toMatchObject({ code: 'KV_GEOMETRY_MISMATCH' });
    await connector.put(key, other);
    reasons.length = 0;
    expect(await store.fetch(HASH)).toBeUndefined();
    expect(reasons).toEqual(['KV_GEOMETRY_MISMATCH']);
    await connector.put(key, object);
  });
});

// By range only the asked-for sections are read, so that damage elsewhere need not be seen; what comes is right all the same.
describe.each(CUT_SAMPLES)('coder $coder, read by range', (sample) => {
  const { object, store, connector, key, tensor } = sample;

  it.each<[string, Damages]>([
    ['every bit of preamble, header and section table', headerBits(sample)],
    ['every length', lengths(sample)],
    ['1 to 64 bytes more', extensions],
    ['every byte of the sections', sectionBytes(sample)],
  ])('%s gives the right bytes or a miss', { timeout: 5 * MINUTES }, async (_, { count, make }) => {
    const right = Buffer.from((await store.fetch(HASH, { layers: [1, 2] }))?.data ?? []);
    const decoded = await decode(object);
    expect(right).toEqual(Buffer.from(packLayout(decoded).data.subarray(tensor.data.length / 2)));
    let misses = 0;
    for (let i = 0; i < count; i++) {
      await connector.put(key, make(object, i));
      const part = await store.fetch(HASH, { layers: [1, 2] });
      if (part === undefined) misses++;
      else expect(Buffer.compare(part.data, right), String(i)).toBe(0);
    }
    if (make !== extensions.make) expect(misses).toBeGreaterThan(count / 4);
    await connector.put(key, object);
  });

  it('any two sections swapped are refused', async () => {
    const { header, sectionStart } = readObject(object);
    const sections: Uint8Array[] = [];
    let offset = sectionStart;
    for (const length of header.lengths) sections.push(object.slice(offset, (offset += length)));
    for (let first = 0; first < sections.length; first++) {
      for (let second = first + 1; second < sections.length; second++) {
        const order = sections.map((_, i) => (i === first ? second : i === second ? first : i));
        const swapped = Uint8Array.of(...object.subarray(0, sectionStart), ...Buffer.concat(order.map((i) => sections[i] ?? new Uint8Array(0))));
        if (Buffer.compare(swapped, object) !== 0) await expect(decode(swapped)).rejects.toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
      }
    }
  });
});
