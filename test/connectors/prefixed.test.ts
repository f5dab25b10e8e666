import { describe, expect, it } from 'vitest';
import { memory } from '../../connectors/storage/memory.js';
import { prefixed } from '../../connectors/storage/prefixed.js';
import { expectSameBytes, listed, patternBytes, storageConnectorContract } from '../contract/storage-connector.js';

let clock = 0;
const PREFIX = 'tenants/alice/';

const factory = {
  make: () => prefixed(memory({ now: () => clock }), PREFIX),
  advanceClock: (ms: number) => void (clock += ms),
  maxKeyBytes: 512 - PREFIX.length,
};
storageConnectorContract('prefixed memory', factory);

describe('prefixed', () => {
  it('puts its prefix before each key of the inner connector', async () => {
    const inner = memory();
    await prefixed(inner, PREFIX).put('model/key', patternBytes(10));
    expect(await listed(inner, '')).toEqual([{ key: 'tenants/alice/model/key', bytes: 10 }]);
  });

  it('reaches nothing outside its prefix', async () => {
    const inner = memory();
    for (const key of ['tenants/alice', 'tenants/alice/', 'tenants/alicea/key', 'tenants/bob/key', 'key']) await inner.put(key, patternBytes(10));
    const alice = prefixed(inner, PREFIX);
    expect(await listed(alice, '')).toEqual([]);
    for (const key of ['key', '../bob/key', '/', '..']) {
      expect(await alice.get(key)).toBeUndefined();
      expect(await alice.has(key)).toBe(false);
      expect(await alice.delete(key)).toBe(false);
    }
    expect(await listed(inner, '')).toHaveLength(5);
  });

  it('keeps tenants of one connector apart', async () => {
    const inner = memory();
    const [alice, bob] = [prefixed(inner, PREFIX), prefixed(inner, 'tenants/bob/')];
    await alice.put('key', patternBytes(10, 1));
    await bob.put('key', patternBytes(20, 2));
    expectSameBytes(await alice.get('key'), patternBytes(10, 1));
    expect(await listed(bob, 'k')).toEqual([{ key: 'key', bytes: 20 }]);
    await alice.delete('key');
    expectSameBytes(await bob.get('key'), patternBytes(20, 2));
  });

  it('refuses a key that is too long with its prefix, and lists nothing under such a prefix', async () => {
    const connector = prefixed(memory(), PREFIX);
    const longest = 'k'.repeat(512 - PREFIX.length);
    await connector.put(longest, patternBytes(10));
    expect(await listed(connector, longest)).toEqual([{ key: longest, bytes: 10 }]);
    await expect(connector.put(`${longest}k`, patternBytes(10))).rejects.toThrow(new TypeError('expected the key to have at most 498 bytes behind its prefix, got 499'));
    expect(await listed(connector, `${longest}k`)).toEqual([]);
  });

  it('gives when a value was stored, where the inner connector knows', async () => {
    const inner = memory();
    const dated = {
      ...inner,
      async *list() {
        yield { key: `${PREFIX}key`, bytes: 10, storedAtMs: 5 };
      },
    };
    for await (const value of prefixed(dated, PREFIX).list('')) expect(value).toEqual({ key: 'key', bytes: 10, storedAtMs: 5 });
    expect.assertions(1);
  });

  it('is repaired under its own keys', async () => {
    const inner = memory();
    expect(prefixed(inner, PREFIX).repair).toBeUndefined();
    const asked: string[] = [];
    const connector = prefixed(
      {
        ...inner,
        async repair(key, isSound) {
          asked.push(key);
          return { sound: (await isSound(patternBytes(1), key)) ? 1 : 0, replaced: 0, deleted: 0, failed: 0 };
        },
      },
      PREFIX,
    );
    const isSound = (_value: Uint8Array, key: string): boolean => asked.push(key) > 0;
    expect(await connector.repair?.('key', isSound)).toMatchObject({ sound: 1 });
    expect(asked).toEqual(['tenants/alice/key', 'key']);
  });

  it('is swept and closed as the inner connector is', async () => {
    const inner = memory();
    expect(prefixed(inner, PREFIX).sweep).toBeUndefined();
    const swept = prefixed({ ...inner, sweep: async () => ({ removed: 1, bytes: 2 }) }, PREFIX);
    expect(await swept.sweep?.()).toEqual({ removed: 1, bytes: 2 });
    await swept.close();
    await expect(inner.has('key')).rejects.toMatchObject({ code: 'KV_CLOSED' });
  });

  it.each(['p'.repeat(512), 'ümlaut/', 'a\nb', 7 as unknown as string])('refuses the prefix %j', (prefix) => {
    expect(() => prefixed(memory(), prefix)).toThrow(TypeError);
  });
});
