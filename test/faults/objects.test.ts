// Objects that are not what the reader expects, on real servers: of an older or newer format, of another kind, changing while they are
// read. Right bytes or a miss, through a KvStore.
import { createHash, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Packr } from 'msgpackr';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { redis } from '../../connectors/storage/redis.js';
import { s3 } from '../../connectors/storage/s3.js';
import { goldenCases } from '../../fixtures/containers/tensors.js';
import { KvStore, type KvLayout, type KvStoreOptions, type KvTensor } from '../../lib/index.js';
import { native } from '../../lib/codec/native.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import type { Namespace } from '../../lib/store/namespace.js';
import { expectSameBytes, listed } from '../contract/storage-connector.js';
import { goldenObject, goldenSums } from '../lib/container/golden.js';
import { SMALL, tensorOf } from '../lib/store/tensors.js';
import { provideServers, PROVIDE_TIMEOUT_MS } from '../servers/provide.js';
import { startRedis, type RedisServer } from '../servers/redis.js';
import { BUCKET, OWNER, startSeaweed, type SeaweedServer } from '../servers/seaweedfs.js';

const base = mkdtempSync(join(tmpdir(), 'kvreel-objects-'));
let redisServer: RedisServer;
let seaweed: SeaweedServer;

beforeAll(async () => {
  const { redis7, redis6, seaweedfs } = await provideServers();
  [redisServer, seaweed] = await Promise.all([startRedis(redis7 ?? redis6), startSeaweed(seaweedfs)]);
}, PROVIDE_TIMEOUT_MS);

afterAll(async () => {
  await Promise.all([redisServer.stop(), seaweed.stop()]);
  rmSync(base, { recursive: true, force: true });
}, 60_000);

/** An empty place on the server, each time another. */
const PLACES: readonly (readonly [string, () => StorageConnector])[] = [
  ['filesystem', () => filesystem({ path: join(base, randomUUID()) })],
  ['redis', () => redis({ port: redisServer.port, prefix: `${randomUUID()}/` })],
  ['s3', () => s3({ endpoint: seaweed.endpoint, bucket: BUCKET, prefix: randomUUID(), credentials: OWNER })],
];

const HASH = 'a1';
const { tokens: _, ...GEOMETRY } = SMALL;
const PLAIN: Namespace = { model: 'm', geometry: GEOMETRY };
const PART = { layers: [1, 2], tokens: [0, 16] } as const;
/** Sections that are not neighbours, so that several ranges are read. */
const GROUP = { layers: [0, SMALL.layers], tokens: [0, 16] } as const;

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** The same preamble and sections after another header, with a checksum that is right: what another version or a forger would write. */
function withHeader(object: Uint8Array, change: Readonly<Record<string, unknown>>): Uint8Array {
  const preambleBytes = 32;
  const packr = new Packr({ useRecords: false, variableMapSize: true });
  const old = new DataView(object.buffer, object.byteOffset);
  const sections = object.subarray(preambleBytes + old.getUint32(8, true));
  const header = packr.pack({ ...(packr.unpack(object.subarray(preambleBytes, object.length - sections.length)) as object), ...change });
  const changed = new Uint8Array([...object.subarray(0, preambleBytes), ...header, ...sections]);
  const view = new DataView(changed.buffer);
  view.setUint32(8, header.length, true);
  view.setBigUint64(16, native().xxh3(header), true);
  view.setBigUint64(24, BigInt(changed.length), true);
  return changed;
}

/** The same bytes with the version after next to the magic: all versions of objects and manifests have it there. */
function newer(bytes: Uint8Array): Uint8Array {
  const changed = bytes.slice();
  changed[4] = 2;
  return changed;
}

describe.each(PLACES)('%s', (_name, place) => {
  let connector: StorageConnector;
  let told: unknown[] = [];

  beforeEach(() => {
    connector = place();
    told = [];
  });
  afterEach(() => connector.close());

  function storeOf(namespace: Namespace, options: Partial<KvStoreOptions> = {}): KvStore {
    return new KvStore({ connector, namespace, groupTokens: 16, onCorrupt: (error) => void told.push('code' in error && error.code), ...options });
  }

  const keyOf = (store: KvStore): string => `chunks/${store.namespace}/${HASH}`;

  async function bytesAt(key: string): Promise<Uint8Array> {
    const bytes = await connector.get(key);
    if (bytes === undefined) throw new Error(`nothing lies at ${key}`);
    return bytes;
  }

  /** The connector, but that something happens after so many gets: 1 is before an object's header, 2 before its sections, 3 after the first of them. */
  function disturbedAfter(reads: number, event: () => Promise<unknown>): StorageConnector {
    let count = 0;
    return {
      ...connector,
      async get(key, options) {
        if (++count === reads + 1) await event();
        return connector.get(key, options);
      },
    };
  }

  describe('fault 56: an object of an older format', () => {
    it.each(goldenCases())('($name, as it was first written) still gives its tensor', async ({ name, tensor, options }) => {
      const { tokens: _tokens, ...geometry } = tensor.layout;
      const store = storeOf({ model: 'm', geometry, quality: options.quality ?? 'exact' });
      await connector.put(keyOf(store), withHeader(goldenObject(name), { key: keyOf(store) }));
      const fetched = await store.fetch(HASH);
      expect(told).toEqual([]);
      expect(fetched?.layout).toEqual(tensor.layout);
      expect(sha256(fetched?.data ?? new Uint8Array())).toBe(goldenSums()[name]?.tensor_sha256);
      expect(await store.lookup([HASH])).toBe(1);
    });
  });

  describe('fault 57: what a newer version wrote', () => {
    async function expectMissAndUntouched(key: string, bytes: Uint8Array, read: () => Promise<unknown>, code: string): Promise<void> {
      await connector.put(key, bytes);
      expect(await read()).toBeUndefined();
      expect(told).toEqual([code]);
      expectSameBytes(await connector.get(key), bytes);
    }

    it.each([
      ['of a newer format', newer, 'KV_UNSUPPORTED_VERSION'],
      ['with a field that nobody knows yet', (object: Uint8Array) => withHeader(object, { residual: 1 }), 'KV_UNSUPPORTED'],
      ['of a coder that nobody knows yet', (object: Uint8Array) => withHeader(object, { coder: 'later' }), 'KV_UNSUPPORTED'],
    ])('an object %s is a miss, whole and in part, and stays until a put replaces it', async (_what, change, code) => {
      const store = storeOf(PLAIN);
      await store.put(HASH, tensorOf(SMALL));
      const object = change(await bytesAt(keyOf(store)));
      await expectMissAndUntouched(keyOf(store), object, () => store.fetch(HASH), code);
      told = [];
      await expectMissAndUntouched(keyOf(store), object, () => store.fetch(HASH, PART), code);
      await store.put(HASH, tensorOf(SMALL, 2));
      expectSameBytes((await store.fetch(HASH))?.data, tensorOf(SMALL, 2).data);
    });

    it('a manifest of a newer format is a miss and stays; its chunks are hits', async () => {
      const store = storeOf(PLAIN);
      await store.putRun([{ hash: HASH, tensor: tensorOf(SMALL) }]);
      const key = `runs/${store.namespace}/${HASH}`;
      await expectMissAndUntouched(key, newer(await bytesAt(key)), () => store.lookupRun(HASH), 'KV_UNSUPPORTED_VERSION');
      expectSameBytes((await store.fetch(HASH))?.data, tensorOf(SMALL).data);
    });
  });

  describe('fault 58: the same prefix hash, but', () => {
    // All have tensors of the same number of bytes, which could be taken for each other.
    const geometry = (change: Partial<KvLayout>): Namespace => ({ ...PLAIN, geometry: { ...GEOMETRY, ...change } });
    const others: readonly (readonly [string, Namespace])[] = [
      ['dtype', geometry({ dtype: 'f16' })],
      ['layout', geometry({ order: 'fused' })],
      ['number of heads', geometry({ kvHeads: 4, headDim: 4 })],
      ['rotation', geometry({ rope: { theta: 10_000, style: 'half' } })],
      ['rung', { ...PLAIN, quality: 'q6' }],
      ['model', { ...PLAIN, model: 'n' }],
      ['adapter', { ...PLAIN, adapter: 'lora' }],
      ['tenant salt', { ...PLAIN, salt: 'of another tenant' }],
      ['rank', { ...PLAIN, rank: { index: 1, of: 2 } }],
    ];

    const tensorFor = ({ geometry: { blockTokens: _blocks, ...rest } }: Namespace, seed: number): KvTensor => tensorOf({ ...rest, tokens: SMALL.tokens }, seed);

    /** Once each way: of the two, one has put and the other looks. */
    async function bothWays(other: Namespace, look: (writer: KvStore, reader: KvStore) => Promise<void>): Promise<void> {
      for (const [mine, theirs] of [[PLAIN, other], [other, PLAIN]] as const) {
        const [writer, reader] = [storeOf(mine), storeOf(theirs)];
        await writer.putRun([{ hash: HASH, tensor: tensorFor(mine, 1) }]);
        const before = await writer.fetch(HASH);
        told = [];
        await look(writer, reader);
        expectSameBytes((await writer.fetch(HASH))?.data, before?.data ?? new Uint8Array());
        await connector.delete(keyOf(writer));
        await connector.delete(`runs/${writer.namespace}/${HASH}`);
      }
    }

    it.each(others)('another %s, is a miss', async (_what, other) => {
      await bothWays(other, async (_writer, reader) => {
        expect([await reader.fetch(HASH), await reader.fetch(HASH, PART), await reader.lookupRun(HASH), await reader.lookup([HASH])]).toEqual([undefined, undefined, undefined, 0]);
        expect(told).toEqual([]);
      });
    });

    it.each(others)('another %s, is a miss where it was copied by hand to the other place, and the copy goes', async (_what, other) => {
      await bothWays(other, async (writer, reader) => {
        for (const part of [{}, PART]) {
          await connector.put(keyOf(reader), await bytesAt(keyOf(writer)));
          expect(await reader.fetch(HASH, part)).toBeUndefined();
          expect(await reader.lookup([HASH])).toBe(0);
        }
        await connector.put(`runs/${reader.namespace}/${HASH}`, await bytesAt(`runs/${writer.namespace}/${HASH}`));
        expect(await reader.lookupRun(HASH)).toBeUndefined();
        expect(told).toEqual(['KV_GEOMETRY_MISMATCH', 'KV_GEOMETRY_MISMATCH', 'KV_CORRUPT_OBJECT']);
      });
    });

    // Of model, adapter, tenant and rank an object says no more than its key does: against forgers there is encryption.
    it.each(others.slice(0, 5))('another %s, is a miss though the copy says that it was made for that place', async (_what, other) => {
      await bothWays(other, async (writer, reader) => {
        for (const part of [{}, PART]) {
          await connector.put(keyOf(reader), withHeader(await bytesAt(keyOf(writer)), { key: keyOf(reader) }));
          expect(await reader.fetch(HASH, part)).toBeUndefined();
        }
        expect(told).toEqual(['KV_GEOMETRY_MISMATCH', 'KV_GEOMETRY_MISMATCH']);
      });
    });

    it('a fetch of another quality than was put, is a miss', async () => {
      await bothWays({ ...PLAIN, quality: 'q6' }, async (writer) => {
        for (const quality of ['exact', 'q5', 'q6']) {
          const isThere = (await writer.lookup([HASH], { quality })) === 1;
          expect((await writer.fetch(HASH, { quality })) !== undefined).toBe(isThere);
        }
        expect([await writer.lookup([HASH]), await writer.lookup([HASH], { quality: 'q5' })]).toEqual([1, 0]);
        expect(told).toEqual([]);
      });
    });
  });

  it('fault 7: an object that is deleted between two range reads of it is a miss', async () => {
    const store = storeOf(PLAIN);
    for (const reads of [1, 2, 3]) {
      await store.put(HASH, tensorOf(SMALL));
      const disturbed = disturbedAfter(reads, () => connector.delete(keyOf(store)));
      expect(await storeOf(PLAIN, { connector: disturbed }).fetch(HASH, GROUP)).toBeUndefined();
    }
  });

  it('fault 17: an object that went between a lookup or a list and its fetch is a miss', async () => {
    const store = storeOf(PLAIN);
    await store.put(HASH, tensorOf(SMALL));
    expect(await store.lookup([HASH])).toBe(1);
    expect((await listed(connector, 'chunks/')).map(({ key }) => key)).toEqual([keyOf(store)]);
    await connector.delete(keyOf(store));
    expect([await store.fetch(HASH), await store.fetch(HASH, PART), await store.lookup([HASH])]).toEqual([undefined, undefined, 0]);
    expect(told).toEqual([]);
  });

  it('fault 30: a bit that flipped where the object lies, unseen by the server, is a miss until the object is put again', async () => {
    const store = storeOf(PLAIN);
    await store.put(HASH, tensorOf(SMALL));
    const object = await bytesAt(keyOf(store));
    // In its magic, its header and its last section.
    for (const at of [0, 40, object.length - 1]) {
      const flipped = object.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 0x10;
      await connector.put(keyOf(store), flipped);
      told = [];
      expect(await store.fetch(HASH)).toBeUndefined();
      expect(told).toEqual(['KV_CORRUPT_OBJECT']);
      expect(await store.lookup([HASH])).toBe(0);
    }
    await store.put(HASH, tensorOf(SMALL));
    expectSameBytes((await store.fetch(HASH))?.data, tensorOf(SMALL).data);
  });

  it.each(['exact', 'raw'])('fault 25: an object that is replaced (coder exact by %s) between two range reads of it is never a mixture', async (coder) => {
    const [writer, other] = [storeOf(PLAIN, { coder: 'exact' }), storeOf(PLAIN, { coder })];
    for (const reads of [1, 2, 3]) {
      await writer.put(HASH, tensorOf(SMALL, 1));
      const changing = disturbedAfter(reads, () => other.put(HASH, tensorOf(SMALL, 2)));
      told = [];
      const fetched = await storeOf(PLAIN, { connector: changing }).fetch(HASH, GROUP);
      expect(told).toEqual(['KV_CORRUPT_OBJECT']);
      expectSameBytes(fetched?.data, (await writer.fetch(HASH, GROUP))?.data ?? new Uint8Array());
      expectSameBytes((await writer.fetch(HASH))?.data, tensorOf(SMALL, 2).data);
    }
  });
});
