// The file of one entry, as somebody or a bad disk may have left it: every way to read it gives the same value, or none does. Values come by
// the addon where they go to memory of the caller, else by Node.
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { filesystem } from '../../../connectors/storage/filesystem.js';
import { entryPath } from '../../../connectors/storage/filesystem/entry-file.js';
import type { GetOptions, StorageConnector } from '../../../lib/store/connector.js';
import { mutateBytes } from '../mutate.js';
import { expectSame, expectThat, refusal, type FuzzTarget } from '../target.js';

const KEY = 'chunks/fuzz';
const TRAILER_BYTES = 528;
const LENGTH_AT = 512;
const TAIL_BYTES = TRAILER_BYTES + 32;
/** Longer than clocks differ, so that an entry is as good tomorrow and on another machine. */
const FOR_EVER_MS = 1e15;

const RANGE = { offset: 3, length: 50 };

const valueOf = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 31 + length) & 0xff);

export const entryFile: FuzzTarget = {
  name: 'entry-file',

  seeds: () =>
    inStore(async (store, path) => {
      const entryOf = async (length: number, ttlMs?: number): Promise<Uint8Array> => {
        await store.put(KEY, valueOf(length), ttlMs === undefined ? {} : { ttlMs });
        return readFile(path);
      };
      const seeds = { empty: await entryOf(0), short: await entryOf(5), long: await entryOf(3000), living: await entryOf(100, FOR_EVER_MS), over: await entryOf(100, 0.001) };
      await store.put('chunks/other', valueOf(100));
      return { ...seeds, 'of-another-key': await readFile(entryPath(dirname(dirname(path)), 'chunks/other')) };
    }),

  // Another value, lifetime or both under a trailer that says so; or another trailer.
  reshape(input, random) {
    const end = input.length - TRAILER_BYTES;
    if (end < 0) return undefined;
    const trailer = Buffer.from(input.subarray(end));
    if (random.oneIn(3)) return Buffer.concat([input.subarray(0, end), mutateBytes(trailer, [], random)]);
    const start = Math.max(0, end - (random.oneIn(2) ? end : TAIL_BYTES - TRAILER_BYTES));
    const before = Buffer.concat([input.subarray(0, start), mutateBytes(input.subarray(start, end), [], random)]);
    const lifetimeBytes = trailer.toString('latin1').endsWith('2') ? TAIL_BYTES - TRAILER_BYTES : 0;
    trailer.writeBigInt64LE(BigInt(before.length - lifetimeBytes), LENGTH_AT);
    return Buffer.concat([before, trailer]);
  },

  meet: (input) =>
    inStore(async (store, path) => {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, input);
      const placed = [await read(store, { into: new Uint8Array(input.length) }), await read(store, { range: RANGE, into: new Uint8Array(RANGE.length) })];
      const plain = [await read(store, {}), await read(store, { range: RANGE })];
expectThat(isDeepStrictEqual(placed, plain), 'memory of the caller gets what a get without it gives');
      const [whole = 'miss', part] = plain;
      if (whole instanceof Uint8Array) {
        const tailBytes = input.length - whole.length;
        expectThat(tailBytes === TRAILER_BYTES || tailBytes === TAIL_BYTES, 'a value is all of the file but its tail');
        expectSame(whole, input.subarray(0, whole.length), 'a value and the start of the file');
      }
      expectThat(isDeepStrictEqual(part, whole instanceof Uint8Array ? whole.slice(RANGE.offset, RANGE.offset + RANGE.length) : whole), 'a range is part of the value');
      await expectAgreed(store, whole);
      return whole instanceof Uint8Array ? 'accepted' : whole;
    }),
};

/** What a get gives, a refusal's code, or `miss`. */
async function read(store: StorageConnector, options: GetOptions): Promise<Uint8Array | string> {
  try {
    const value = await store.get(KEY, options);
    return value === undefined ? 'miss' : Uint8Array.from(value);
  } catch (error) {
    return refusal(error, ['KV_CORRUPT_OBJECT']);
  }
}

/** The other verbs say what `get` gave; sweep takes away what gives nothing, and leaves alone what does. */
async function expectAgreed(store: StorageConnector, given: Uint8Array | string): Promise<void> {
  const isGood = given instanceof Uint8Array;
  expectThat((await store.has(KEY)) === isGood, 'has says what get gives');
  const listed: unknown[] = [];
  for await (const { key, bytes } of store.list('')) listed.push({ key, bytes });
  expectThat(isDeepStrictEqual(listed, isGood ? [{ key: KEY, bytes: given.length }] : []), 'what get gives is listed, and nothing else');
  await store.sweep?.();
  expectThat(isDeepStrictEqual(await read(store, {}), isGood ? given : 'miss'), 'a sweep takes away what nobody can get, and nothing else');
}

/** Lends an empty store and the path of the entry. */
async function inStore<T>(work: (store: StorageConnector, path: string) => Promise<T>): Promise<T> {
  const root = await mkdtemp(join(tmpdir(), 'kvreel-fuzz-'));
  const store = filesystem({ path: root });
  try {
    return await work(store, entryPath(root, KEY));
  } finally {
    await store.close();
    await rm(root, { recursive: true, force: true });
  }
}
