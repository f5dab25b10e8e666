// What a cluster does that one server does not: slots that move, members that go.
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { redis } from '../../connectors/storage/redis.js';
import { keySlot } from '../../connectors/storage/redis/key-slot.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { expectSameBytes, listed, patternBytes } from '../contract/storage-connector.js';
import { provideServers } from '../servers/provide.js';
import { startRedisCluster, type RedisCluster, type RedisServer } from '../servers/redis.js';

const { redis6, redis7, valkey9 } = await provideServers();

describe.each([
  ['Redis 7', redis7 ?? redis6],
  ['Valkey 9', valkey9],
])('redis on a cluster of %s', (_, program) => {
  let cluster: RedisCluster;

  beforeAll(async () => {
    cluster = await startRedisCluster(program);
  });

  afterAll(() => cluster.stop());

  beforeEach(() => Promise.all(cluster.servers.map((server) => server.command('FLUSHALL'))));

  const at = (index: number): RedisServer => {
    const server = cluster.servers[index];
    if (server === undefined) throw new Error('no such member');
    return server;
  };

  function open(): StorageConnector {
    const connector = redis({ port: at(0).port, cluster: true, timeoutMs: 5000 });
    onTestFinished(() => connector.close());
    return connector;
  }

  const memberId = async (server: RedisServer) => (await server.command('CLUSTER', 'MYID')).split('\r\n')[1] ?? '';
  const ownerOf = (slot: number) => at(Math.floor((slot * 3) / 16_384));

  it('finds the slot of a key as the server does', async () => {
    const keys = ['key', '', '{', '}', '{}', '{}a', 'a{}b{c}', '{a}b', 'a{{b}}c', 'a{b}{c}', 'a}b{c', '{a', ' ', 'x'.repeat(512), ...Array.from({ length: 200 }, (_, i) => `${i * 7919}{${i % 7}`.padEnd(i % 40, '}~'))];
    for (const key of keys) expect(`:${keySlot(key)}\r\n`, key).toBe(await at(0).command('CLUSTER', 'KEYSLOT', key));
  });

  it('spreads keys over the members and finds each of them', async () => {
    const connector = open();
    for (let i = 0; i < 60; i++) await connector.put(`key/${i}`, patternBytes(100 + i, i));
    for (const server of cluster.servers) expect(Number((await server.command('DBSIZE')).slice(1))).toBeGreaterThan(5);
    for (let i = 0; i < 60; i++) expectSameBytes(await connector.get(`key/${i}`), patternBytes(100 + i, i));
    expect(await listed(connector, 'key/')).toHaveLength(60);
  });

  it('follows a slot that moves to another member, in the middle of the move and after it', async () => {
    const connector = open();
    const keys = Array.from({ length: 20 }, (_, i) => `{moves}/${i}`);
    const slot = keySlot('{moves}/0');
    const from = ownerOf(slot);
    const to = at((cluster.servers.indexOf(from) + 1) % 3);
    for (const [i, key] of keys.entries()) await connector.put(key, patternBytes(50_000, i));
    const allThere = async () => {
      for (const [i, key] of keys.entries()) {
        expectSameBytes(await connector.get(key), patternBytes(50_000, i));
        expectSameBytes(await connector.get(key, { range: { offset: 100, length: 50 } }), patternBytes(50_000, i).slice(100, 150));
        expect(await connector.has(key)).toBe(true);
      }
    };

    await to.command('CLUSTER', 'SETSLOT', String(slot), 'IMPORTING', await memberId(from));
    await from.command('CLUSTER', 'SETSLOT', String(slot), 'MIGRATING', await memberId(to));
    for (const key of keys.slice(0, 10)) await from.command('MIGRATE', '127.0.0.1', String(to.port), key, '0', '5000');
    await allThere(); // half of them by ASK
    await connector.put('{moves}/new', patternBytes(10)); // is put where it will be
    for (const key of keys.slice(10)) await from.command('MIGRATE', '127.0.0.1', String(to.port), key, '0', '5000');
    for (const server of [to, from]) await server.command('CLUSTER', 'SETSLOT', String(slot), 'NODE', await memberId(to));
    await allThere(); // by MOVED, once
    expect(await connector.delete('{moves}/new')).toBe(true);
    expect(Number((await from.command('CLUSTER', 'COUNTKEYSINSLOT', String(slot))).slice(1))).toBe(0);

    for (const server of [from, to]) await server.command('CLUSTER', 'SETSLOT', String(slot), 'NODE', await memberId(from)).catch(() => undefined);
  });

  it('fault 5: a member that is killed fails its own keys alone, and is used at once when it is back', async () => {
    const connector = open();
    const keys = Array.from({ length: 30 }, (_, i) => `key/${i}`);
    for (const key of keys) await connector.put(key, patternBytes(1000));
    const dead = at(2);
    await dead.kill();
    for (const key of keys) {
      const get = connector.get(key);
      if (ownerOf(keySlot(key)) === dead) await expect(get, key).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
      else expectSameBytes(await get, patternBytes(1000));
    }
    await dead.restart();
    const outcome = (key: string) => connector.get(key).then((value) => value?.byteLength ?? 'missing', ({ code }: { code: string }) => code);
    // The members need a moment to trust the returned one.
    for (const key of keys) await expect.poll(() => outcome(key), { timeout: 10_000 }).toBe(ownerOf(keySlot(key)) === dead ? 'missing' : 1000);
  });

  it('a member that stops answering does not hold up the keys of the others', async () => {
    const connector = open();
    const keys = Array.from({ length: 30 }, (_, i) => `key/${i}`);
    for (const key of keys) await connector.put(key, patternBytes(1000));
    const silent = at(0); // the one that the connector was told
    silent.pause();
    onTestFinished(() => silent.resume());
    const fresh = redis({ port: at(1).port, cluster: true, timeoutMs: 1000 });
    onTestFinished(() => fresh.close());
    for (const key of keys.filter((key) => ownerOf(keySlot(key)) !== silent)) {
      expectSameBytes(await connector.get(key), patternBytes(1000));
      expectSameBytes(await fresh.get(key), patternBytes(1000));
    }
  });
});
