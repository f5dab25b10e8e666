// What every storage connector, and every wrapper around one, must do. A connector's test file is a factory, one call of
// `storageConnectorContract`, and what is its own.
import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CallOptions, ListedValue, StorageConnector } from '../../lib/store/connector.js';

export interface StorageConnectorFactory {
  /** A connector with nothing in it. */
  make(): Promise<StorageConnector> | StorageConnector;
  /** Frees what `make` set up around the connector (a server, a directory); runs after each test. */
  dispose?(): Promise<void> | void;
  /** A connector whose far end is not there. Leave out where there is no far end. */
  unreachable?(): Promise<StorageConnector> | StorageConnector;
  /** Makes the far end stop answering, with its connections open, and returns what makes it answer again. Leave out as above. */
  stall?(): Promise<() => void> | (() => void);
  /** The longest key it takes, where that is less than 512 bytes. */
  readonly maxKeyBytes?: number;
  /** Lets this much time pass for `ttlMs`. Needed if `supports.ttl`. */
  advanceClock?(ms: number): Promise<void> | void;
}

const MIB = 1024 * 1024;

/** Registers the contract's tests under `name`. */
export function storageConnectorContract(name: string, factory: StorageConnectorFactory): void {
  describe(`${name} keeps the storage connector contract:`, () => {
    const fits = (key: string): boolean => key.length <= (factory.maxKeyBytes ?? 512);
    let connector: StorageConnector;

    beforeEach(async () => {
      connector = await factory.make();
    });

    afterEach(async () => {
      await connector.close();
      await factory.dispose?.();
    });

    describe('values', () => {
      it.each([0, 1, 2, 255, 4095, 4097, 65_537, MIB + 1, 8 * MIB + 13])('of %i bytes come back equal', async (size) => {
        const value = patternBytes(size);
        await connector.put('value', value);
        expectSameBytes(await connector.get('value'), value);
      });

      it('are taken from a view that starts inside its buffer', async () => {
        const outer = patternBytes(1000);
        await connector.put('value', outer.subarray(3, 700));
        expectSameBytes(await connector.get('value'), outer.slice(3, 700));
      });

      it('are not changed by putting them', async () => {
        const value = patternBytes(5000);
        await connector.put('value', value);
        expectSameBytes(value, patternBytes(5000));
      });

      it('may be overwritten by the caller after the put', async () => {
        const value = patternBytes(5000);
        await connector.put('value', value);
        value.fill(0);
        expectSameBytes(await connector.get('value'), patternBytes(5000));
      });

      it('are not shared between two gets', async () => {
        await connector.put('value', patternBytes(5000));
        (await connector.get('value'))?.fill(0);
        expectSameBytes(await connector.get('value'), patternBytes(5000));
      });

      it('are replaced whole, by shorter and by longer ones', async () => {
        for (const size of [1000, 10, 5000, 0, 1]) {
          await connector.put('value', patternBytes(size, size));
          expectSameBytes(await connector.get('value'), patternBytes(size, size));
        }
      });

      it('must be bytes', async () => {
        const text = 'text' as unknown as Uint8Array;
        await expect(connector.put('value', text)).rejects.toBeInstanceOf(TypeError);
        expect(await connector.get('value')).toBeUndefined();
      });
    });

    describe('a missing key', () => {
      it('gives undefined, whatever is asked of it', async () => {
        await connector.put('another', patternBytes(10));
        expect(await connector.get('missing')).toBeUndefined();
        expect(await connector.get('missing', { into: new Uint8Array(10) })).toBeUndefined();
        if (!connector.supports.range) return;
        expect(await connector.get('missing', { range: { offset: 0, length: 1 } })).toBeUndefined();
      });

      it('leaves the memory to read into as it was', async () => {
        const into = patternBytes(100);
        await connector.get('missing', { into });
        expectSameBytes(into, patternBytes(100));
      });

      it('is not there, before anything was put and after', async () => {
        expect(await connector.has('missing')).toBe(false);
        expect(await connector.delete('missing')).toBe(false);
        await connector.put('another', patternBytes(10));
        expect(await connector.has('missing')).toBe(false);
        expect(await connector.has('another')).toBe(true);
      });
    });

    describe('delete', () => {
      it('says whether there was something, and takes only that', async () => {
        await connector.put('gone', patternBytes(10));
        await connector.put('kept', patternBytes(10));
        expect(await connector.delete('gone')).toBe(true);
        expect(await connector.delete('gone')).toBe(false);
        expect(await connector.has('gone')).toBe(false);
        expect(await connector.get('gone')).toBeUndefined();
        expect(await connector.has('kept')).toBe(true);
      });

      it('lets the key be put again', async () => {
        await connector.put('key', patternBytes(10, 1));
        await connector.delete('key');
        await connector.put('key', patternBytes(10, 2));
        expectSameBytes(await connector.get('key'), patternBytes(10, 2));
      });
    });

    describe('keys', () => {
      it.each(Object.entries(REFUSED_KEYS))('that are %s are refused by every verb', async (_, key) => {
        for (const call of everyVerb(connector, key)) await expect(call()).rejects.toBeInstanceOf(TypeError);
        expect(await listed(connector, '')).toEqual([]);
      });

      it.each(ODD_KEYS.filter(fits))('like %j are taken as they are', async (key) => {
        await connector.put(key, patternBytes(100));
        expectSameBytes(await connector.get(key), patternBytes(100));
        expect(await connector.has(key)).toBe(true);
        expect(await listed(connector, '')).toEqual([{ key, bytes: 100 }]);
        expect(await connector.delete(key)).toBe(true);
      });

      it.each(TWIN_KEYS.filter((twins) => twins.every(fits)))('%j and %j are kept apart', async (one, other) => {
        await connector.put(one, patternBytes(50, 1));
        expect(await connector.has(other)).toBe(false);
        await connector.put(other, patternBytes(60, 2));
        expectSameBytes(await connector.get(one), patternBytes(50, 1));
        expectSameBytes(await connector.get(other), patternBytes(60, 2));
        await connector.delete(one);
        expectSameBytes(await connector.get(other), patternBytes(60, 2));
      });
    });

    describe('range', () => {
      const value = patternBytes(100_000);

      beforeEach(() => connector.put('value', value));

      const inside = [
        ['at the start', 0, 10],
        ['inside', 4097, 50_001],
        ['of one byte', 70_000, 1],
        ['at the end', 99_990, 10],
        ['over the end', 99_990, 1000],
        ['over everything', 0, 200_000],
        ['of no bytes', 500, 0],
        ['from the end on', 100_000, 10],
        ['beyond the end', 1_000_000, 10],
        ['beyond any file', Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
      ] as const;

      it.each(inside)('%s gives these bytes, or is refused if it is not supported', async (_, offset, length) => {
        const read = connector.get('value', { range: { offset, length } });
        if (!connector.supports.range) return await expect(read).rejects.toBeInstanceOf(TypeError);
        expectSameBytes(await read, value.slice(offset, offset + length));
      });

      it.each([
        [-1, 10],
        [0, -1],
        [0.5, 10],
        [0, 1.5],
        [NaN, 10],
        [0, Infinity],
        [2 ** 53, 1],
      ])('of offset %d and length %d is refused', async (offset, length) => {
        const mistake = connector.supports.range ? RangeError : TypeError;
        await expect(connector.get('value', { range: { offset, length } })).rejects.toBeInstanceOf(mistake);
      });

      it('can be read into memory that holds the range but not the value', async () => {
        if (!connector.supports.range) return;
        const into = new Uint8Array(64);
        const read = await connector.get('value', { range: { offset: 1000, length: 64 }, into });
        expectSameBytes(read, value.slice(1000, 1064));
        expectView(read, into);
      });
    });

    describe('into', () => {
      const value = patternBytes(70_001);

      beforeEach(() => connector.put('value', value));

      it.each([
        ['exactly fits', 0, 70_001],
        ['is larger', 0, 80_000],
        ['starts at an odd address', 3, 70_001],
        ['starts at an odd address and is larger', 13, 75_000],
      ])('memory that %s is filled and nothing around it', async (_, start, length) => {
        const memory = new Uint8Array(start + length + 16).fill(0xa5);
        const into = memory.subarray(start, start + length);
        const read = await connector.get('value', { into });
        expectSameBytes(read, value);
        expectView(read, into);
        expect(memory.subarray(0, start).every((byte) => byte === 0xa5)).toBe(true);
        expect(memory.subarray(start + value.byteLength).every((byte) => byte === 0xa5)).toBe(true);
      });

      it('memory that is too small is refused and left as it was', async () => {
        const into = new Uint8Array(70_000).fill(0xa5);
        await expect(connector.get('value', { into })).rejects.toBeInstanceOf(RangeError);
        expect(into.every((byte) => byte === 0xa5)).toBe(true);
      });

      it('no memory is enough for an empty value', async () => {
        await connector.put('empty', new Uint8Array(0));
        expectSameBytes(await connector.get('empty', { into: new Uint8Array(0) }), new Uint8Array(0));
      });
    });

    describe('time to live', () => {
      it('ends a value after its time and not before, or is refused if it is not supported', async () => {
        const put = connector.put('short', patternBytes(10), { ttlMs: 1000 });
        if (!connector.supports.ttl) return await expect(put).rejects.toBeInstanceOf(TypeError);
        if (factory.advanceClock === undefined) throw new Error('a connector that supports ttl needs `advanceClock`');
        await put;
        await connector.put('kept', patternBytes(10));
        await factory.advanceClock(900);
        expect(await connector.has('short')).toBe(true);
        await factory.advanceClock(200);
        expect(await connector.get('short')).toBeUndefined();
        expect(await connector.has('short')).toBe(false);
        expect(await connector.delete('short')).toBe(false);
        expect(await listed(connector, '')).toEqual([{ key: 'kept', bytes: 10 }]);
      });

      it('is that of the last put', async () => {
        if (!connector.supports.ttl) return;
        await connector.put('value', patternBytes(10), { ttlMs: 1000 });
        await connector.put('value', patternBytes(20));
        await factory.advanceClock?.(2000);
        expectSameBytes(await connector.get('value'), patternBytes(20));
      });

      it.each([0, -1, NaN])('of %d ms is refused', async (ttlMs) => {
        const mistake = connector.supports.ttl ? RangeError : TypeError;
        await expect(connector.put('value', patternBytes(10), { ttlMs })).rejects.toBeInstanceOf(mistake);
        expect(await connector.has('value')).toBe(false);
      });
    });

    describe('at the same time', () => {
      it('64 puts and then 64 gets do not disturb each other', async () => {
        const sizes = Array.from({ length: 64 }, (_, i) => i * 1031);
        await Promise.all(sizes.map((size, i) => connector.put(`key/${i}`, patternBytes(size, i))));
        const values = await Promise.all(sizes.map((_, i) => connector.get(`key/${i}`)));
        values.forEach((value, i) => expectSameBytes(value, patternBytes(i * 1031, i)));
      });

      it('a reader sees one whole value of a key that several writers replace', async () => {
        const sizes = [MIB + 1, 300_000, MIB / 2, 17];
        const valueOf = (writer: number) => new Uint8Array(sizes[writer] ?? 0).fill(writer);
        let isWriting = true;
        let reads = 0;

        async function write(writer: number): Promise<void> {
          for (let i = 0; i < 12; i++) await connector.put('key', valueOf(writer));
        }

        async function read(): Promise<void> {
          while (isWriting) {
            const value = await connector.get('key');
            expectSameBytes(value, valueOf(value?.[0] ?? -1));
            reads++;
            // A connector that settles without leaving the microtask queue would otherwise starve the writers.
            await new Promise(setImmediate);
          }
        }

        await connector.put('key', valueOf(0));
        const readers = [read(), read(), read(), read()];
        await Promise.all(sizes.map((_, writer) => write(writer))).finally(() => (isWriting = false));
        await Promise.all(readers);
        expect(reads).toBeGreaterThanOrEqual(4);
      });

      it('gets that race with a delete give the value or a miss', async () => {
        const value = patternBytes(MIB);
        await connector.put('key', value);
        const gets = Array.from({ length: 8 }, () => connector.get('key'));
        await connector.delete('key');
        for (const read of await Promise.all(gets)) if (read !== undefined) expectSameBytes(read, value);
        expect(await connector.get('key')).toBeUndefined();
      });
    });

    describe('an abort', () => {
      const reason = new Error('the caller changed its mind');

      it('before a call rejects every verb with its reason, and nothing happens', async () => {
        await connector.put('key', patternBytes(100));
        const signal = AbortSignal.abort(reason);
        for (const call of everyVerb(connector, 'key', { signal })) await expect(call()).rejects.toBe(reason);
        expectSameBytes(await connector.get('key'), patternBytes(100));
      });

      it('during a put leaves the old value or the new one, whole; rejected, with its reason', async () => {
        const [before, after] = [patternBytes(1000, 1), patternBytes(8 * MIB + 1, 2)];
        await connector.put('key', before);
        const controller = new AbortController();
        const put = connector.put('key', after, { signal: controller.signal });
        controller.abort(reason);
        const outcome = await settled(put);
        const value = await connector.get('key');
        // Rejected, it may still have reached the far end; but never half of it.
        expectSameBytes(value, outcome.isDone || value?.byteLength === after.byteLength ? after : before);
        if (!outcome.isDone) expect(outcome.cause).toBe(reason);
      });

      it('during a get rejects with its reason or comes too late', async () => {
        const value = patternBytes(8 * MIB + 1);
        await connector.put('key', value);
        const controller = new AbortController();
        const get = connector.get('key', { signal: controller.signal });
        controller.abort(reason);
        const outcome = await settled(get);
        if (outcome.isDone) expectSameBytes(outcome.result, value);
        else expect(outcome.cause).toBe(reason);
        expectSameBytes(await connector.get('key'), value);
      });

      it('during a list ends it with its reason', async () => {
        for (let i = 0; i < 5; i++) await connector.put(`key/${i}`, patternBytes(10));
        const controller = new AbortController();
        const outcome = await settled(
          (async () => {
            for await (const _ of connector.list('', { signal: controller.signal })) controller.abort(reason);
          })(),
        );
        expect(outcome).toEqual({ isDone: false, cause: reason });
      });

      it('after a call changes nothing', async () => {
        const controller = new AbortController();
        const { signal } = controller;
        await connector.put('key', patternBytes(5000), { signal });
        const read = await connector.get('key', { signal });
        controller.abort(reason);
        expectSameBytes(read, patternBytes(5000));
        expectSameBytes(await connector.get('key'), patternBytes(5000));
      });
    });

    describe('list', () => {
      it('gives nothing from an empty store', async () => {
        expect(await listed(connector, '')).toEqual([]);
      });

      it('gives each key once, with the size of its last value', async () => {
        await connector.put('b', patternBytes(20));
        await connector.put('a', patternBytes(10));
        await connector.put('a', patternBytes(30));
        await connector.put('empty', patternBytes(0));
        await connector.put('gone', patternBytes(5));
        await connector.delete('gone');
        expect(await listed(connector, '')).toEqual([
          { key: 'a', bytes: 30 },
          { key: 'b', bytes: 20 },
          { key: 'empty', bytes: 0 },
        ]);
      });

      it('gives only what starts with the prefix, wherever the prefix ends', async () => {
        for (const key of ['model/a/1', 'model/a/2', 'model/ab', 'model/b', 'other', 'mode']) {
          await connector.put(key, patternBytes(1));
        }
        const keys = async (prefix: string) => (await listed(connector, prefix)).map(({ key }) => key);
        expect(await keys('model/a/')).toEqual(['model/a/1', 'model/a/2']);
        expect(await keys('model/a')).toEqual(['model/a/1', 'model/a/2', 'model/ab']);
        expect(await keys('model/a/1')).toEqual(['model/a/1']);
        expect(await keys('odel')).toEqual([]);
        expect(await keys('')).toHaveLength(6);
      });

      it('gives every one of 100 keys', async () => {
        const keys = Array.from({ length: 100 }, (_, i) => `key/${String(i).padStart(3, '0')}`);
        await Promise.all(keys.map((key) => connector.put(key, patternBytes(3))));
        expect(await listed(connector, 'key/')).toEqual(keys.map((key) => ({ key, bytes: 3 })));
      });

      it('can be left half way without holding up close()', async () => {
        for (let i = 0; i < 3; i++) await connector.put(`key/${i}`, patternBytes(10));
        const values = connector.list('')[Symbol.asyncIterator]();
        expect((await values.next()).done).toBe(false);
        await connector.close();
      });
    });

    describe('close', () => {
      it('waits for running calls', async () => {
        const order: string[] = [];
        const put = connector.put('key', patternBytes(4 * MIB)).then(() => order.push('put'));
        await connector.close().then(() => order.push('close'));
        await put;
        expect(order).toEqual(['put', 'close']);
      });

      it('makes every verb reject with KV_CLOSED', async () => {
        await connector.put('key', patternBytes(10));
        await connector.close();
        for (const call of everyVerb(connector, 'key')) await expect(call()).rejects.toMatchObject({ code: 'KV_CLOSED' });
      });

      it('may be called twice, also at once', async () => {
        await Promise.all([connector.close(), connector.close()]);
        await connector.close();
      });
    });

    describe.runIf(factory.stall !== undefined)('a far end that stops answering', () => {
      const reason = new Error('the deadline is over');
      const value = patternBytes(2 * MIB + 1);
      let resume: () => void;

      beforeEach(async () => {
        for (const key of ['kept', 'replaced', 'deleted']) await connector.put(key, value);
        await Promise.all([connector.get('kept'), connector.get('kept'), connector.has('kept')]);
        resume = (await factory.stall?.()) ?? (() => undefined);
      });

      afterEach(() => resume());

      /** Twelve calls at once, more than a connector keeps connections for. */
      function everyCall(signal: AbortSignal, into = new Uint8Array(value.byteLength)): Promise<unknown>[] {
        const verbs = [
          () => connector.get('kept', { signal }),
          () => connector.get('kept', { signal, into }),
          () => connector.put('replaced', value, { signal }),
          () => connector.has('kept', { signal }),
          () => connector.delete('deleted', { signal }),
          () => listed(connector, '', { signal }),
        ];
        return [...verbs, ...verbs].map((call) => call());
      }

      /** When it aborts, after 100 ms, and what it aborts. */
      function deadline(): { readonly signal: AbortSignal; lateMs(): number } {
        const controller = new AbortController();
        setMaxListeners(0, controller.signal);
        let abortedAt = NaN;
        setTimeout(() => {
          abortedAt = performance.now();
          controller.abort(reason);
        }, 100);
        return { signal: controller.signal, lateMs: () => performance.now() - abortedAt };
      }

      it('lets every call settle within 50 ms of its deadline, with the reason of its signal', async () => {
        const { signal, lateMs } = deadline();
        const calls = everyCall(signal).map(async (call) => {
          const outcome = await settled(call);
          return { outcome, late: lateMs() };
        });
        for (const { outcome, late } of await Promise.all(calls)) {
          expect(outcome).toEqual({ isDone: false, cause: reason });
          expect(late).toBeLessThan(50);
        }
      });

      it('does not hold up close() beyond the deadlines', async () => {
        const { signal, lateMs } = deadline();
        const calls = Promise.allSettled(everyCall(signal));
        await connector.close();
        expect(lateMs()).toBeLessThan(100);
        await calls;
      });

      it('is used again as soon as it answers, and what it answers late reaches nobody', async () => {
        await Promise.allSettled(everyCall(deadline().signal));
        resume();
        for (let i = 0; i < 8; i++) {
          const other = patternBytes(MIB + i, i + 1);
          await connector.put('other', other);
          const [whole, kept, isThere] = await Promise.all([connector.get('other'), connector.get('kept'), connector.has('missing')]);
          expectSameBytes(whole, other);
          expectSameBytes(kept, value);
          expect(isThere).toBe(false);
        }
      });

      it('writes nothing into the memory of a call that was rejected', async () => {
        const into = new Uint8Array(value.byteLength);
        await Promise.allSettled(everyCall(deadline().signal, into));
        into.fill(0xa5);
        resume();
        for (let i = 0; i < 8; i++) expectSameBytes(await connector.get('kept'), value);
        expect(into.every((byte) => byte === 0xa5)).toBe(true);
      });
    });

    const { unreachable } = factory;
    if (unreachable === undefined) return;

    it('an unreachable far end makes every verb reject with a code that may be tried again', async () => {
      const away = await unreachable();
      try {
        for (const call of everyVerb(away, 'key')) {
          await expect(call()).rejects.toMatchObject({ name: 'KvError', retryable: true });
        }
      } finally {
        await away.close();
      }
    });
  });
}

const REFUSED_KEYS = {
  empty: '',
  'over 512 bytes': 'k'.repeat(513),
  'far over 512 bytes': 'k'.repeat(100_000),
  'with NUL': 'a\0b',
  'with CR LF': 'a\r\nb',
  'with a tab': 'a\tb',
  'with DEL': 'a\x7f',
  'with a line feed at the end': 'a\n',
  'with a lone surrogate': 'a\ud800',
  'composed (NFC)': 'caf\u00e9',
  'decomposed (NFD)': 'cafe\u0301',
  'with fullwidth dots': '\uff0e\uff0e',
  'no string': 7 as unknown as string,
} as const;

const ODD_KEYS = [
  '.',
  '..',
  '../escape',
  '../../../../../../escape',
  'a/../b',
  '/',
  '/absolute',
  'a//b',
  'trailing/',
  'C:\\windows',
  '..\\escape',
  '%2e%2e%2f',
  '%00',
  '%',
  'CON',
  'NUL.txt',
  '-rf',
  '--help',
  '~',
  '$HOME',
  '`id`',
  '*',
  '?x=1&y#z',
  '[a-z]',
  '{hash}',
  'a b',
  ' ',
  ' leading',
  'trailing ',
  'temp',
  '__proto__',
  'constructor',
  '<&>"\'',
  'k'.repeat(512),
  'part/'.repeat(102),
];

const HASH = createHash('sha256').update('value').digest('hex');

const TWIN_KEYS: readonly (readonly [string, string])[] = [
  ['key', 'KEY'],
  ['key', 'Key'],
  ['key', 'key '],
  ['key', ' key'],
  ['key', 'key.'],
  ['key', 'key/'],
  ['key', '/key'],
  ['key', './key'],
  ['a/b', 'a//b'],
  ['a/b', 'a/./b'],
  ['b', 'a/../b'],
  ['a/b', 'a\\b'],
  ['a/b', 'a%2fb'],
  ['a b', 'a+b'],
  ['a b', 'a%20b'],
  ['%2e', '.'],
  ['%2e', '%2E'],
  ['a', 'a/b'],
  [HASH, HASH.slice(0, 32)],
  [HASH, `${HASH.slice(0, 63)}${HASH.endsWith('0') ? '1' : '0'}`],
  [HASH, HASH.toUpperCase()],
  [HASH, 'value'],
  ['k'.repeat(512), 'k'.repeat(511)],
];

/** One call of each verb that takes a key or prefix, not yet started. */
function everyVerb(connector: StorageConnector, key: string, options: CallOptions = {}): (() => Promise<unknown>)[] {
  // No key starts with a refused key, so that is refused as a prefix as well; but the empty prefix means every key.
  const prefix = key === '' ? '\0' : key;
  return [
    () => connector.get(key, options),
    () => connector.put(key, patternBytes(3), options),
    () => connector.has(key, options),
    () => connector.delete(key, options),
    () => listed(connector, prefix, options),
  ];
}

/** What `list` gives, sorted by key. */
export async function listed(connector: StorageConnector, prefix: string, options: CallOptions = {}): Promise<ListedValue[]> {
  const values: ListedValue[] = [];
  for await (const { key, bytes } of connector.list(prefix, options)) values.push({ key, bytes });
  return values.sort((a, b) => (a.key < b.key ? -1 : 1));
}

type Outcome<T> = { readonly isDone: true; readonly result: T } | { readonly isDone: false; readonly cause: unknown };

async function settled<T>(call: Promise<T>): Promise<Outcome<T>> {
  try {
    return { isDone: true, result: await call };
  } catch (cause) {
    return { isDone: false, cause };
  }
}

/** Bytes that differ from their neighbours, from those 256 and 65,536 further on, and between seeds. */
export function patternBytes(size: number, seed = 0): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = (i * 167 + (i >> 8) * 13 + (i >> 16) * 7 + seed * 31 + 1) & 0xff;
  return bytes;
}

/** Like toEqual, but in microseconds for megabytes and without printing them. */
export function expectSameBytes(actual: Uint8Array | undefined, expected: Uint8Array): void {
  if (actual === undefined) throw new Error(`expected ${expected.byteLength} bytes, got undefined`);
  expect(actual.byteLength).toBe(expected.byteLength);
  const difference = Buffer.compare(actual, expected) === 0 ? -1 : actual.findIndex((byte, i) => byte !== expected[i]);
  expect(difference, 'offset of the first byte that differs').toBe(-1);
}

function expectView(actual: Uint8Array | undefined, into: Uint8Array): void {
  expect(actual?.buffer).toBe(into.buffer);
  expect(actual?.byteOffset).toBe(into.byteOffset);
}
