import { describe, expect, test } from 'vitest';
import { lmcacheKey, type LmcacheKeyParts } from '../../../lib/key/lmcache-key.js';
import { kvRank, objectFileName, objectKey, type KvRankParts, type ObjectKeyParts } from '../../../lib/key/object-key.js';
import { vllmGroupKey } from '../../../lib/key/vllm-group-key.js';
import { fixture } from './fixture.js';

describe('an LMCache key', () => {
  const parts: LmcacheKeyParts = { model: 'org/model', worldSize: 2, workerId: 1, hash: '7d35a9949200f810', dtype: 'bfloat16', tags: [['user', 'alice']] };

  test('reads as in the integration notes, with and without a layer', () => {
    expect(lmcacheKey(parts)).toBe('org/model@2@1@7d35a9949200f810@bfloat16@user%alice');
    expect(lmcacheKey({ ...parts, layer: 1 })).toBe('org/model@2@1@7d35a9949200f810@bfloat16@1@user%alice');
  });

  test('is what CacheEngineKey writes', () => {
    for (const row of fixture<{ parts: LmcacheKeyParts; key: string }>('lmcache-keys.json')) {
      expect(lmcacheKey(row.parts)).toBe(row.key);
    }
  });

  test.each<[string, object, string]>([
    ['a padded hash', { hash: '00ff' }, 'expected `hash` to be lower-case hex without padding, got 00ff'],
    ['our own name of a dtype', { dtype: 'bf16' }, 'expected `dtype` to be one of half, bfloat16,'],
    ['a negative worker', { workerId: -1 }, 'expected `workerId` to be an integer from 0'],
    ['an unknown part', { rank: 1 }, 'got rank'],
  ])('refuses %s', (_, wrong, message) => {
    expect(() => lmcacheKey({ ...parts, ...wrong })).toThrow(message);
  });
});

describe('an object key of the multiprocess server', () => {
  const parts: ObjectKeyParts = { model: 'org/model', hash: '00ff', kvRank: 1 };

  interface Row {
    readonly model: string;
    readonly ranks: [number, number, number, number];
    readonly kv_rank: number;
    readonly group: number;
    readonly salt: string;
    readonly hash: string;
    readonly key: string;
    readonly file: string;
  }

  test('and its file name are what ObjectKey and the adapters write', () => {
    for (const row of fixture<Row>('lmcache-object-keys.json')) {
      const [worldSize, globalRank, localWorldSize, localRank] = row.ranks;
      const rank = kvRank({ worldSize, globalRank, localWorldSize, localRank });
      const whole = { model: row.model, hash: row.hash, kvRank: rank, objectGroup: row.group, cacheSalt: row.salt };
      expect([rank, objectKey(whole), objectFileName(whole)]).toEqual([row.kv_rank, row.key, row.file]);
    }
  });

  test('packs the ranks as in the integration notes', () => {
    expect(kvRank({ worldSize: 2, globalRank: 1, localWorldSize: 2, localRank: 1 })).toBe(0x02010201);
  });

  test.each<[string, object, string]>([
    ['a model with @', { model: 'a@b' }, 'expected `model` to be without @, got a@b'],
    ['a signed hash', { hash: '-274654dcc82ea3f3' }, 'expected `hash` to be lower-case hex of whole bytes'],
    ['a salt with a slash', { cacheSalt: 'a/b' }, 'expected `cacheSalt` to be at most 128 characters without @, /, \\ and NUL, got a/b'],
    ['a salt that is too long', { cacheSalt: 'x'.repeat(129) }, 'expected `cacheSalt`'],
    ['an unknown part', { salt: 'a' }, 'got salt'],
  ])('refuses %s', (_, wrong, message) => {
    expect(() => objectKey({ ...parts, ...wrong })).toThrow(message);
    expect(() => objectFileName({ ...parts, ...wrong })).toThrow(message);
  });

  test.each<[string, Partial<KvRankParts>]>([
    ['more workers than a byte holds', { worldSize: 256 }],
    ['a rank outside the world', { globalRank: 2 }],
    ['a local rank outside its machine', { localRank: 2 }],
  ])('has no rank for %s', (_, wrong) => {
    expect(() => kvRank({ worldSize: 2, globalRank: 1, localWorldSize: 2, localRank: 1, ...wrong })).toThrow(RangeError);
  });
});

describe('a vLLM group key', () => {
  test('is what vLLM packs', () => {
    for (const row of fixture<{ hash: string; group: number; key: string }>('vllm-group-keys.json')) {
      expect(vllmGroupKey(row.hash, row.group)).toBe(row.key);
    }
  });

  test('needs a block hash', () => {
    expect(() => vllmGroupKey('c494c1984e88a11', 0)).toThrow('expected `hash` to be 64 lower-case hex digits');
  });
});
