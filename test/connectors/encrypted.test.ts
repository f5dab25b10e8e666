import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { encrypted, parseEncryptionKeys, type EncryptionKeys } from '../../connectors/storage/encrypted.js';
import { SEALED_BYTES, SEGMENT_BYTES, segmentOffset, storedBytes, valueBytesOf } from '../../connectors/storage/encrypted/format.js';
import { segmentNonce } from '../../connectors/storage/encrypted/segments.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { memory } from '../../connectors/storage/memory.js';
import { tiered } from '../../connectors/storage/tiered.js';
import type { GetOptions, StorageConnector } from '../../lib/store/connector.js';
import { KvStore } from '../../lib/store/store.js';
import { expectSameBytes, listed, patternBytes, storageConnectorContract } from '../contract/storage-connector.js';

const K1 = new Uint8Array(32).map((_, i) => i);
const K2 = new Uint8Array(32).fill(9);
const KEYS: EncryptionKeys = { keys: { k1: K1 }, writeKeyId: 'k1' };
const KIB = 1024;

let clock = 0;
const base = mkdtempSync(join(tmpdir(), 'kvreel-encrypted-'));
let folders = 0;
afterAll(() => rmSync(base, { recursive: true, force: true }), 120_000);

storageConnectorContract('encrypted memory', {
  make: () => encrypted(memory({ now: () => clock }), KEYS),
  advanceClock: (ms) => void (clock += ms),
});

storageConnectorContract('encrypted filesystem', {
  make() {
    vi.useFakeTimers({ toFake: ['Date', 'hrtime'] }); // the clocks of its times to live
    return encrypted(filesystem({ path: join(base, String(folders++)) }), KEYS);
  },
  dispose: () => void vi.useRealTimers(),
  advanceClock: (ms) => void vi.advanceTimersByTime(ms),
});

storageConnectorContract('encrypted memory that knows no ranges', {
  make: () => encrypted(withoutRanges(memory({ now: () => clock })), KEYS),
  advanceClock: (ms) => void (clock += ms),
});

function withoutRanges(inner: StorageConnector): StorageConnector {
  return {
    ...inner,
    supports: { ...inner.supports, range: false },
    async get(key, options = {}) {
      if (options.range !== undefined) throw new TypeError('no ranges');
      return inner.get(key, options);
    },
  };
}

/** Counts the gets that reach a connector and the bytes that they ask for; `beforeGet` may change the store between two of them. */
function watched(inner: StorageConnector) {
  const asked: number[] = [];
  const watch = { asked, beforeGet: async (): Promise<void> => undefined };
  const connector: StorageConnector = {
    ...inner,
    async get(key: string, options: GetOptions = {}) {
      asked.push(options.range?.length ?? Infinity);
      await watch.beforeGet();
      return inner.get(key, options);
    },
  };
  return { connector, watch };
}

let inner: StorageConnector;
let connector: StorageConnector;

beforeEach(() => {
  inner = memory();
  connector = encrypted(inner, KEYS);
});

/** What is stored under `key`. */
async function stored(key: string): Promise<Uint8Array> {
  const bytes = await inner.get(key);
  if (bytes === undefined) throw new Error(`nothing is stored under ${key}`);
  return bytes;
}

/** Whole and by range, through a connector that has not read the value before. */
function everyRead(key: string, valueBytes: number, stranger = encrypted(inner, KEYS)): (() => Promise<unknown>)[] {
  const ranges = [undefined, { offset: 0, length: 1 }, { offset: Math.max(0, valueBytes - 1), length: 5 }];
  return ranges.map((range) => () => stranger.get(key, range && { range }));
}

async function expectCorrupt(read: Promise<unknown>): Promise<void> {
  await expect(read).rejects.toMatchObject({ name: 'KvError', code: 'KV_CORRUPT_OBJECT', retryable: false });
}

describe('a value that is not as it was put:', () => {
  it('no bit of it can be changed', async () => {
    await connector.put('key', patternBytes(6));
    const good = await stored('key');
    const codes = new Map<unknown, number>();
    const stranger = encrypted(inner, KEYS);
    for (let bit = 0; bit < good.byteLength * 8; bit++) {
      const bad = new Uint8Array(good);
      bad[bit >> 3] = (bad[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      await inner.put('key', bad);
      for (const read of everyRead('key', 6, stranger)) {
        const error: unknown = await read().catch((cause: unknown) => cause);
        expect(error, `bit ${bit}`).toMatchObject({ name: 'KvError', retryable: false });
        const { code } = error as { code: string };
        codes.set(code, (codes.get(code) ?? 0) + 1);
      }
    }
    // 16 bits say the version; of the 16 that say "k1", ten make another id of it, for which there is no key,
    // and 64 make its key another.
    expect(Object.fromEntries(codes)).toEqual({ KV_CORRUPT_OBJECT: 3 * (94 * 8 - 16 - 74), KV_UNSUPPORTED_VERSION: 3 * 16, KV_UNSUPPORTED: 3 * 74 });
  });

  it('no bit of it can be changed behind the back of a reader that remembers its header: right bytes or none', async () => {
    await connector.put('key', patternBytes(6));
    const good = await stored('key');
    const range = { offset: 1, length: 4 };
    for (let bit = 0; bit < good.byteLength * 8; bit++) {
      await inner.put('key', good);
      expectSameBytes(await connector.get('key', { range }), patternBytes(6).subarray(1, 5));
      const bad = new Uint8Array(good);
      bad[bit >> 3] = (bad[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      await inner.put('key', bad);
      if (bit >= 72 * 8) await expectCorrupt(connector.get('key', { range }));
      else expectSameBytes(await connector.get('key', { range }), patternBytes(6).subarray(1, 5));
    }
  });

  it('it cannot be cut short, at any length', async () => {
    await connector.put('key', patternBytes(300));
    const good = await stored('key');
    const stranger = encrypted(inner, KEYS);
    for (let length = 0; length < good.byteLength; length++) {
      await inner.put('key', good.subarray(0, length));
      for (const read of everyRead('key', 300, stranger)) await expectCorrupt(read());
    }
  });

  it('it cannot be cut short between segments, nor lose one', async () => {
    const value = randomBytes(3 * SEGMENT_BYTES);
    await connector.put('key', value);
    const good = await stored('key');
    for (const kept of [0, 1, 2]) {
      await inner.put('key', good.subarray(0, segmentOffset(kept)));
      await expectCorrupt(connector.get('key'));
      await inner.put('key', Buffer.concat([good.subarray(0, segmentOffset(kept)), good.subarray(segmentOffset(kept + 1))]));
      await expectCorrupt(connector.get('key'));
    }
  });

  it('nothing can be appended: a byte, or segments', async () => {
    await connector.put('key', randomBytes(2 * SEGMENT_BYTES));
    const good = await stored('key');
    const tails = [...Array.from({ length: 64 }, (_, i) => new Uint8Array(i + 1)), good.subarray(segmentOffset(1)), good];
    for (const tail of tails) {
      await inner.put('key', Buffer.concat([good, tail]));
      await expectCorrupt(connector.get('key'));
      await expectCorrupt(connector.get('key', { range: { offset: 2 * SEGMENT_BYTES - 1, length: 5 } }));
    }
  });

  it('nothing can be appended to one that is exactly as long as a first read asks for', async () => {
    const bytes = valueBytesOf(2 ** 20);
    expect(storedBytes(bytes)).toBe(2 ** 20);
    await connector.put('key', randomBytes(bytes));
    await inner.put('key', Buffer.concat([await stored('key'), new Uint8Array(1)]));
    await expectCorrupt(connector.get('key'));
  });

  it('its segments cannot be swapped or repeated', async () => {
    await connector.put('key', randomBytes(4 * SEGMENT_BYTES));
    const good = await stored('key');
    const segment = (i: number) => good.subarray(segmentOffset(i), segmentOffset(i + 1));
    for (const [to, from] of [[0, 1], [1, 0], [1, 2], [2, 1], [3, 2], [2, 3], [0, 3]] as const) {
      const repeated = new Uint8Array(good);
      repeated.set(segment(from), segmentOffset(to));
      const swapped = new Uint8Array(repeated);
      swapped.set(segment(to), segmentOffset(from));
      for (const bad of [repeated, swapped]) {
        await inner.put('key', bad);
        for (const reader of [connector, encrypted(inner, KEYS)]) {
          await expectCorrupt(reader.get('key'));
          await expectCorrupt(reader.get('key', { range: { offset: to * SEGMENT_BYTES, length: 10 } }));
        }
      }
    }
  });

  it('segments of two puts of one key cannot be mixed, not even of the same bytes', async () => {
    const value = randomBytes(3 * SEGMENT_BYTES);
    await connector.put('key', value);
    const [first, second] = [await stored('key'), await connector.put('key', value).then(() => stored('key'))];
    for (const cut of [72, segmentOffset(1), segmentOffset(2)]) {
      await inner.put('key', Buffer.concat([first.subarray(0, cut), second.subarray(cut)]));
      await expectCorrupt(connector.get('key'));
      await expectCorrupt(connector.get('key', { range: { offset: 2 * SEGMENT_BYTES, length: 10 } }));
    }
  });

  it("another key's value is not taken for it", async () => {
    await connector.put('model/a', patternBytes(1000));
    await connector.put('model/b', patternBytes(1000));
    await connector.get('model/b', { range: { offset: 0, length: 1 } });
    await inner.put('model/b', await stored('model/a'));
    for (const read of everyRead('model/b', 1000)) await expectCorrupt(read());
    expectSameBytes(await connector.get('model/a'), patternBytes(1000));
  });

  it('a value that is not encrypted is not taken for one', async () => {
    for (const bytes of [0, 1, 71, 72, 88, 10_000]) {
      await inner.put('key', patternBytes(bytes));
      await expectCorrupt(connector.get('key'));
    }
  });

  it('its word for its length takes no memory before it is proved', async () => {
    await connector.put('key', patternBytes(100));
    const good = Buffer.from(await stored('key'));
    for (const length of [0n, 99n, 101n, 131_073n, 1n << 40n, (1n << 48n) + 1n, 1n << 53n, (1n << 64n) - 1n]) {
      good.writeBigUInt64LE(length, 8);
      await inner.put('key', good);
      for (const read of everyRead('key', 100)) await expectCorrupt(read());
      await expectCorrupt(connector.get('key', { range: { offset: 0, length: Number.MAX_SAFE_INTEGER } }));
      await expectCorrupt(connector.get('key', { range: { offset: 2 ** 40, length: 10 } }));
    }
  });

  it('whatever bytes lie there, they are refused with a code', async () => {
    await connector.put('key', patternBytes(200));
    const good = await stored('key');
    const anything = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.tuple(fc.integer({ min: 1, max: 72 }), fc.uint8Array({ maxLength: 300 })).map(([kept, rest]) => Buffer.concat([good.subarray(0, kept), rest])),
    );
    const stranger = encrypted(inner, KEYS);
    const range = fc.option(fc.record({ offset: fc.nat(300), length: fc.oneof(fc.nat(300), fc.maxSafeInteger().map(Math.abs)) }), { nil: undefined });
    await fc.assert(
      fc.asyncProperty(anything, range, async (bytes, wanted) => {
        await inner.put('key', bytes);
        await expect(stranger.get('key', wanted && { range: wanted })).rejects.toMatchObject({ code: expect.stringMatching(/^KV_(CORRUPT_OBJECT|UNSUPPORTED(_VERSION)?)$/) });
      }),
      { numRuns: 2000 },
    );
  });

  it('a store answers with a miss and tells why', async () => {
    const reasons: unknown[] = [];
    const geometry = { order: 'mla', dtype: 'u8', layers: 1, kvHeads: 1, headDim: 16 } as const;
    const store = new KvStore({ connector, namespace: { model: 'm', geometry }, onCorrupt: (error) => reasons.push((error as { code?: string }).code) });
    await store.put('aa', { layout: { ...geometry, tokens: 16 }, data: patternBytes(256) });
    expectSameBytes((await store.fetch('aa'))?.data, patternBytes(256));
    const [entry] = await listed(inner, '');
    const key = entry?.key ?? '';
    const bad = await stored(key);
    bad[100] = (bad[100] ?? 0) ^ 1;
    await inner.put(key, bad);
    expect(await store.fetch('aa')).toBeUndefined();
    expect(reasons).toEqual(['KV_CORRUPT_OBJECT']);
    await store.close();
  });
});

describe('what is stored', () => {
  it.each([0, 1, 100, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES])('of %i bytes has the size that the format says, and list says the value\'s', async (bytes) => {
    await connector.put('key', randomBytes(bytes));
    expect((await stored('key')).byteLength).toBe(storedBytes(bytes));
    expect(valueBytesOf(storedBytes(bytes))).toBe(bytes);
    expect(await listed(connector, '')).toEqual([{ key: 'key', bytes }]);
  });

  it('and is too short to be a value is listed, so that it can be found and deleted', async () => {
    await inner.put('junk', patternBytes(10));
    expect(await listed(connector, '')).toEqual([{ key: 'junk', bytes: 0 }]);
    expect(await connector.delete('junk')).toBe(true);
  });

  it('keeps the time that the connector reports', async () => {
    const timed = { ...inner, async *list() { yield { key: 'key', bytes: storedBytes(5), storedAtMs: 7 }; } };
    for await (const value of encrypted(timed, KEYS).list('')) expect(value).toEqual({ key: 'key', bytes: 5, storedAtMs: 7 });
  });

  it('never has eight bytes in a row of the value, whatever the value', async () => {
    for (const value of [randomBytes(1000), Buffer.alloc(1000), Buffer.from('secret prompt '.repeat(70))]) {
      await connector.put('key', value);
      const bytes = Buffer.from(await stored('key')).subarray(32); // the header before its salt is zeros in part, and no secret
      const found = Array.from({ length: value.byteLength - 7 }, (_, i) => bytes.indexOf(value.subarray(i, i + 8)));
      expect(found.every((at) => at === -1)).toBe(true);
    }
  });

  it('is never the same twice: each put has a salt of its own', async () => {
    const salts = new Set<string>();
    const bodies = new Set<string>();
    for (let i = 0; i < 300; i++) {
      await connector.put('key', patternBytes(20));
      const bytes = Buffer.from(await stored('key'));
      salts.add(bytes.toString('hex', 32, 64));
      bodies.add(bytes.toString('hex', 72));
    }
    expect([salts.size, bodies.size]).toEqual([300, 300]);
  });

  it('uses each nonce once: no two segments of a value share one', () => {
    const segment = fc.record({ index: fc.oneof(fc.nat(5), fc.integer({ min: 0, max: 2 ** 32 }), fc.maxSafeInteger().map(Math.abs)), isLast: fc.boolean() });
    const text = ({ index, isLast }: { index: number; isLast: boolean }) => Buffer.from(segmentNonce(index, isLast)).toString('hex');
    fc.assert(fc.property(segment, segment, (one, other) => (text(one) === text(other)) === (one.index === other.index && one.isLast === other.isLast)), { numRuns: 5000 });
  });
});

describe('a range', () => {
  const value = randomBytes(20 * SEGMENT_BYTES + 77);

  it('of any place gives these bytes', async () => {
    await connector.put('key', value);
    const place = fc.tuple(fc.nat(value.byteLength + 10), fc.oneof(fc.nat(100), fc.nat(value.byteLength)));
    await fc.assert(
      fc.asyncProperty(place, fc.boolean(), async ([offset, length], isRemembered) => {
        const reader = isRemembered ? connector : encrypted(inner, KEYS);
        expectSameBytes(await reader.get('key', { range: { offset, length } }), value.subarray(offset, offset + length));
      }),
      { numRuns: 60, examples: [[[SEGMENT_BYTES, SEGMENT_BYTES], true], [[SEGMENT_BYTES - 1, 2], true], [[value.byteLength - 1, 1], true], [[0, value.byteLength], false]] },
    );
  });

  it('takes one read once the value is known, and no more than a segment too much at each end', async () => {
    const { connector: far, watch } = watched(inner);
    const reader = encrypted(far, KEYS);
    await reader.put('key', value);
    await reader.get('key', { range: { offset: 0, length: 32 } });
    expect(watch.asked.length).toBe(1);
    for (const [offset, length] of [[10, 10], [SEGMENT_BYTES, 1000], [3 * SEGMENT_BYTES + 5, 2 * SEGMENT_BYTES], [value.byteLength - 5, 5]] as const) {
      watch.asked.length = 0;
      expectSameBytes(await reader.get('key', { range: { offset, length } }), value.subarray(offset, offset + length));
      expect(watch.asked.length).toBe(1);
      expect(watch.asked[0]).toBeLessThanOrEqual(length + 2 * SEALED_BYTES);
    }
  });

  it('takes two reads if the value is not known and it starts inside', async () => {
    await connector.put('key', value);
    const { connector: far, watch } = watched(inner);
    const reader = encrypted(far, KEYS);
    expectSameBytes(await reader.get('key', { range: { offset: 10 * SEGMENT_BYTES, length: 10 } }), value.subarray(10 * SEGMENT_BYTES, 10 * SEGMENT_BYTES + 10));
    expect(watch.asked).toEqual([segmentOffset(1) + 1, SEALED_BYTES]);
  });

  it('of a value that was replaced by another process is that of the new one, whatever the sizes', async () => {
    const other = encrypted(inner, KEYS);
    const range = { offset: 2 * SEGMENT_BYTES + 9, length: 5000 };
    for (const bytes of [5 * SEGMENT_BYTES, 3 * SEGMENT_BYTES, 100, 0, 4 * SEGMENT_BYTES + 1]) {
      const replacement = randomBytes(bytes);
      await other.put('key', replacement);
      for (let i = 0; i < 2; i++) expectSameBytes(await connector.get('key', { range }), replacement.subarray(range.offset, range.offset + range.length));
      expectSameBytes(await connector.get('key', { range, into: new Uint8Array(5000) }), replacement.subarray(range.offset, range.offset + range.length));
    }
    await other.delete('key');
    expect(await connector.get('key', { range })).toBeUndefined();
  });

  it('of a value that was replaced by a shorter one needs no more memory than that', async () => {
    await connector.put('key', randomBytes(1000));
    await connector.get('key', { range: { offset: 0, length: 1 } });
    await encrypted(inner, KEYS).put('key', patternBytes(5));
    const into = new Uint8Array(8);
    expectSameBytes(await connector.get('key', { range: { offset: 0, length: 1000 }, into }), patternBytes(5));
    await expect(connector.get('key', { range: { offset: 0, length: 1000 }, into: new Uint8Array(4) })).rejects.toBeInstanceOf(RangeError);
  });

  it('of a damaged value is read once more, in case it was replaced, and not again', async () => {
    await connector.put('key', value);
    const bad = new Uint8Array(await stored('key'));
    bad[segmentOffset(1)] = (bad[segmentOffset(1)] ?? 0) ^ 1;
    await inner.put('key', bad);
    const { connector: far, watch } = watched(inner);
    await expectCorrupt(encrypted(far, KEYS).get('key', { range: { offset: SEGMENT_BYTES, length: 10 } }));
    expect(watch.asked.length).toBe(4);
  });

  it('of a value that is replaced between the two reads is that of one of the values', async () => {
    const { connector: far, watch } = watched(inner);
    const values = Array.from({ length: 4 }, () => randomBytes(3 * SEGMENT_BYTES));
    await connector.put('key', values[0] ?? value);
    let next = 1;
    watch.beforeGet = async () => {
      const replacement = values[next++];
      if (replacement !== undefined) await connector.put('key', replacement);
    };
    const read = await encrypted(far, KEYS).get('key', { range: { offset: 2 * SEGMENT_BYTES, length: 100 } });
    expectSameBytes(read, (values[3] ?? value).subarray(2 * SEGMENT_BYTES, 2 * SEGMENT_BYTES + 100));
  });

  it('of a value that others replace all the time is right', async () => {
    const [one, two] = [encrypted(inner, KEYS), encrypted(inner, KEYS)];
    const sizes = [3 * SEGMENT_BYTES, 5 * SEGMENT_BYTES + 9, 200_000, 40];
    const [offset, length] = [SEGMENT_BYTES - 20, SEGMENT_BYTES + 50];
    let isWriting = true;
    let reads = 0;

    async function read(reader: StorageConnector): Promise<void> {
      while (isWriting) {
        const bytes = await reader.get('key', { range: { offset, length } });
        const writer = bytes?.[0] ?? 3;
        const left = Math.max(0, (sizes[writer] ?? 0) - offset);
        expectSameBytes(bytes, new Uint8Array(Math.min(length, left)).fill(writer));
        reads++;
        await new Promise(setImmediate);
      }
    }

    await one.put('key', new Uint8Array(40));
    const readers = [read(two), read(two), read(encrypted(inner, KEYS))];
    for (let i = 0; i < 80; i++) await one.put('key', new Uint8Array(sizes[i % 4] ?? 0).fill(i % 4));
    isWriting = false;
    await Promise.all(readers);
    expect(reads).toBeGreaterThan(20);
  });

  it('of a value that is replaced without end is given up', async () => {
    const { connector: far, watch } = watched(inner);
    watch.beforeGet = () => connector.put('key', randomBytes(3 * SEGMENT_BYTES));
    await expectCorrupt(encrypted(far, KEYS).get('key', { range: { offset: 2 * SEGMENT_BYTES, length: 100 } }));
    expect(watch.asked.length).toBeLessThanOrEqual(10);
  });
});

describe('a get of a whole value', () => {
  it('takes one read, also of a long value once such a one was read', async () => {
    const value = randomBytes(5_000_000);
    const { connector: far, watch } = watched(inner);
    const reader = encrypted(far, KEYS);
    await reader.put('key', value);
    expectSameBytes(await reader.get('key'), value);
    expect(watch.asked.length).toBe(2);
    expectSameBytes(await reader.get('key', { into: new Uint8Array(5_000_000) }), value);
    expect(watch.asked.length).toBe(3);
  });

  it('asks a connector that knows no ranges for none', async () => {
    const reader = encrypted(withoutRanges(inner), KEYS);
    const value = randomBytes(2_000_000);
    await reader.put('key', value);
    expectSameBytes(await reader.get('key'), value);
  });
});

describe('keys', () => {
  it('rotate: new values are sealed with the new key, old ones are still read', async () => {
    await connector.put('old', patternBytes(100));
    const rotated = encrypted(inner, { keys: { k1: K1, k2: K2 }, writeKeyId: 'k2' });
    await rotated.put('new', patternBytes(200));
    expectSameBytes(await rotated.get('old'), patternBytes(100));
    expectSameBytes(await rotated.get('new'), patternBytes(200));
    expect(Buffer.from(await stored('old')).toString('latin1', 16, 32)).toBe('k1'.padEnd(16, '\0'));
    expect(Buffer.from(await stored('new')).toString('latin1', 16, 32)).toBe('k2'.padEnd(16, '\0'));
  });

  it('that are not there make a value unreadable, and the message says which one to add', async () => {
    await encrypted(inner, { keys: { k2: K2 }, writeKeyId: 'k2' }).put('key', patternBytes(10));
    await expect(connector.get('key')).rejects.toMatchObject({ code: 'KV_UNSUPPORTED', message: expect.stringContaining('"k2"') });
  });

  it('that are others under the same id open nothing, and what they do not open is not taken for damaged', async () => {
    await encrypted(inner, { keys: { k1: K2 }, writeKeyId: 'k1' }).put('key', patternBytes(10));
    for (const read of everyRead('key', 10)) await expect(read()).rejects.toMatchObject({ code: 'KV_UNSUPPORTED', message: expect.stringContaining('"k1"') });
    const forged = Buffer.from(await stored('key'));
    await connector.put('other', patternBytes(10));
    forged.set((await stored('other')).subarray(64, 72), 64); // the check of the right key
    await inner.put('key', forged);
    for (const read of everyRead('key', 10)) await expectCorrupt(read());
  });

  it('may be bytes, base64, hex, or asked for once, when they are needed', async () => {
    await connector.put('key', patternBytes(10));
    let times = 0;
    const source = async () => (times++, Buffer.from(K1).toString('base64'));
    const same = [Buffer.from(K1), Buffer.from(K1).toString('hex'), Buffer.from(K1).toString('base64'), Buffer.from(K1).toString('base64url'), () => K1, source];
    for (const key of same) {
      const reader = encrypted(inner, { keys: { k1: key }, writeKeyId: 'k1' });
      for (const value of await Promise.all([1, 2, 3].map(() => reader.get('key')))) expectSameBytes(value, patternBytes(10));
      expectSameBytes(await reader.get('key'), patternBytes(10));
    }
    expect(times).toBe(1);
  });

  it('whose source fails make the call fail in a way that may be tried again', async () => {
    await connector.put('key', patternBytes(10));
    const failure = new Error('no route to the key server');
    let isUp = false;
    const reader = encrypted(inner, { keys: { k1: () => (isUp ? K1 : Promise.reject(failure)) }, writeKeyId: 'k1' });
    await expect(reader.get('key')).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE', retryable: true, cause: failure });
    isUp = true;
    expectSameBytes(await reader.get('key'), patternBytes(10));
  });

  it.each([
    ['too short', new Uint8Array(31)],
    ['too long', new Uint8Array(33)],
    ['base64 of too few bytes', 'c2VjcmV0c2VjcmV0c2VjcmV0'],
    ['hex with one digit too few', 'a'.repeat(63)],
    ['a passphrase', 'correct horse battery staple'],
    ['empty', ''],
    ['a number', 7 as unknown as string],
  ])('that are %s are refused, and the message does not show them', async (_, key) => {
    expect(() => encrypted(inner, { keys: { k1: key }, writeKeyId: 'k1' })).toThrow(new TypeError('expected the key "k1" to be 32 bytes, as a Uint8Array, base64 or hex'));
    const late = encrypted(inner, { keys: { k1: () => key }, writeKeyId: 'k1' });
    await expect(late.put('key', patternBytes(1))).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE', cause: expect.any(TypeError) });
  });

  it('are found neither in an error nor in the connector when it is printed', async () => {
    const [hex, base64] = [Buffer.from(K2).toString('hex'), Buffer.from(K2).toString('base64')];
    const secret = encrypted(inner, { keys: { k2: K2 }, writeKeyId: 'k2' });
    await inner.put('key', patternBytes(100));
    const error: unknown = await secret.get('key').catch((cause: unknown) => cause);
    const shown = inspect([error, secret], { depth: Infinity, showHidden: true });
    for (const text of [hex, base64, '09 09 09', '9, 9, 9']) expect(shown).not.toContain(text);
  });

  it.each(['', 'a b', 'k'.repeat(17), 'ä', 'a/b', 'a=b'])('cannot have the id %j', (id) => {
    expect(() => encrypted(inner, { keys: { [id]: K1 }, writeKeyId: id })).toThrow(TypeError);
  });

  it('must have the one to write with among them, and nothing else may be given', () => {
    expect(() => encrypted(inner, { keys: { k1: K1 }, writeKeyId: 'k2' })).toThrow(RangeError);
    expect(() => encrypted(inner, { keys: {}, writeKeyId: 'toString' })).toThrow(RangeError);
    expect(() => encrypted(inner, { ...KEYS, algorithm: 'aes' } as EncryptionKeys)).toThrow(TypeError);
    expect(() => encrypted(inner, { writeKeyId: 'k1' } as EncryptionKeys)).toThrow(TypeError);
  });
});

describe('upkeep', () => {
  it('is passed on: what is swept are stored bytes', async () => {
    const swept = { removed: 2, bytes: 100 };
    expect(await encrypted({ ...inner, sweep: async () => swept }, KEYS).sweep?.()).toEqual(swept);
    expect(connector.sweep).toBeUndefined();
    expect(connector.repair).toBeUndefined();
  });

  it('repairs from a sound copy; what a check sees is the value', async () => {
    const upper = memory();
    const repaired = encrypted(tiered([upper, inner]), KEYS);
    await connector.put('key', patternBytes(300_000));
    const good = await stored('key');
    const seen: number[] = [];
    const isSound = (value: Uint8Array) => (expectSameBytes(value, patternBytes(300_000)), seen.push(value.byteLength) > 0);
    for (const at of [10, 40, 100, 200_000, good.byteLength - 1]) {
      const bad = new Uint8Array(good);
      bad[at] = (bad[at] ?? 0) ^ 1;
      await upper.put('key', bad);
      expect(await repaired.repair?.('key', isSound)).toMatchObject({ sound: 1, replaced: 1 });
      expectSameBytes(await upper.get('key'), good);
    }
    expect(seen.length).toBe(5);
    expect(await repaired.repair?.('key', () => false)).toMatchObject({ sound: 0, deleted: 2 });
    expect(await repaired.get('key')).toBeUndefined();
  });

  it('leaves a copy alone that is sealed with a key it does not have', async () => {
    await encrypted(inner, { keys: { k2: K2 }, writeKeyId: 'k2' }).put('key', patternBytes(10));
    const repaired = encrypted(tiered([inner, memory()]), KEYS);
    expect(await repaired.repair?.('key', () => false)).toMatchObject({ sound: 1, deleted: 0 });
  });
});

describe('parseEncryptionKeys', () => {
  const base64 = Buffer.from(K1).toString('base64');
  const hex = Buffer.from(K2).toString('hex');

  it.each([
    ['lines', `new=${base64}\nold=${hex}\n`],
    ['commas', `new=${base64},old=${hex}`],
    ['comments, blank lines and spaces', `# keys of 2026, the old ones below\n\n  new = ${base64} \r\n\told=${hex}`],
  ])('reads %s; the first key seals', (_, text) => {
    const { keys, writeKeyId } = parseEncryptionKeys(text);
    expect(writeKeyId).toBe('new');
    expect(Object.keys(keys)).toEqual(['new', 'old']);
    expectSameBytes(keys['new'] as Uint8Array, K1);
    expectSameBytes(keys['old'] as Uint8Array, K2);
  });

  it.each(['', '\n#nothing', base64, `=${base64}`, `a=${base64},a=${hex}`, `a=${base64.slice(1)}`, `a b=${base64}`, `a=${base64} ${hex}`])('refuses %j without showing it', (text) => {
    const error = (() => {
      try {
        return parseEncryptionKeys(text);
      } catch (cause) {
        return cause;
      }
    })();
    expect(error).toBeInstanceOf(TypeError);
    expect((error as Error).message).not.toMatch(/[A-Za-z0-9+/]{20}/);
  });
});

describe('docs/format-encrypted.md', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/format-encrypted.md'), 'utf8');
  const [, block = ''] = /```hex\n([^`]*)```/.exec(page) ?? [];
  const bytesOf = (line: string) => Buffer.from((/^[0-9a-f]{4} {2}((?:[0-9a-f]{2} ?)+)/.exec(line)?.[1] ?? '').replaceAll(' ', ''), 'hex');
  const example = Buffer.concat(block.trimEnd().split('\n').map(bytesOf));

  /** A reader written from the page alone, with another library's AES and HKDF. */
  async function readBySpecification(object: Uint8Array, key: string, master: Uint8Array): Promise<Uint8Array> {
    const { subtle } = globalThis.crypto;
    const view = new DataView(object.buffer, object.byteOffset);
    const valueBytes = Number(view.getBigUint64(8, true));
    const material = await subtle.importKey('raw', new Uint8Array(master), 'HKDF', false, ['deriveKey']);
    const hkdf = { name: 'HKDF', hash: 'SHA-256', salt: object.slice(32, 64), info: new TextEncoder().encode('kvreel encrypted value 1') };
    const aes = await subtle.deriveKey(hkdf, material, { name: 'AES-GCM', length: 256 }, false, ['decrypt']);
    const additionalData = Buffer.concat([object.subarray(0, 72), Buffer.from(key)]);
    const parts: Uint8Array[] = [];
    for (let at = 72, index = 0; at < object.byteLength; at += 131_088, index++) {
      const iv = new Uint8Array(12);
      new DataView(iv.buffer).setBigUint64(0, BigInt(index), true);
      iv[11] = at + 131_088 >= object.byteLength ? 1 : 0;
      parts.push(new Uint8Array(await subtle.decrypt({ name: 'AES-GCM', iv, additionalData, tagLength: 128 }, aes, object.slice(at, at + 131_088))));
    }
    const value = Buffer.concat(parts);
    expect(value.byteLength).toBe(valueBytes);
    return value;
  }

  it('shows offsets that fit its bytes', () => {
    let at = 0;
    for (const line of block.trimEnd().split('\n')) {
      expect(Number.parseInt(line.slice(0, 4), 16), line).toBe(at);
      at += bytesOf(line).byteLength;
    }
    expect(at).toBe(94);
  });

  it('shows an object that the connector reads', async () => {
    await inner.put('a/b', example);
    expect(Buffer.from((await connector.get('a/b')) ?? []).toString()).toBe('kvreel');
    await inner.put('a/c', example);
    await expectCorrupt(connector.get('a/c'));
  });

  it('tells enough to read it, and what the connector writes, by another program', async () => {
    expect(Buffer.from(await readBySpecification(example, 'a/b', K1)).toString()).toBe('kvreel');
    for (const bytes of [0, 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 300 * KIB]) {
      const value = randomBytes(bytes);
      await connector.put('some key', value);
      expectSameBytes(await readBySpecification(await stored('some key'), 'some key', K1), value);
    }
  });
});
