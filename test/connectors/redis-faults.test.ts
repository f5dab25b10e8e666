// Faults that a real server can be brought to; their numbers are those of the fault list that all connectors share, those of the network are in
// test/faults/network.test.ts. Right bytes or a miss, in time.
import { inspect } from 'node:util';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { redis, type RedisOptions } from '../../connectors/storage/redis.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { expectSameBytes, listed, patternBytes } from '../contract/storage-connector.js';
import { provideServers } from '../servers/provide.js';
import { startRedis, type RedisServer, type RedisServerOptions } from '../servers/redis.js';
import { freePort } from '../servers/server.js';

const MIB = 1024 * 1024;
const { redis6, redis7, valkey9 } = await provideServers();

async function start(options: RedisServerOptions = {}): Promise<RedisServer> {
  const server = await startRedis(redis7 ?? redis6, options);
  onTestFinished(() => server.stop());
  return server;
}

/** A connector that is closed with the test. */
function open(options: RedisOptions): StorageConnector {
  const connector = redis(options);
  onTestFinished(() => connector.close());
  return connector;
}

const verbs = (connector: StorageConnector): Record<string, () => Promise<unknown>> => ({
  get: () => connector.get('key'),
  range: () => connector.get('key', { range: { offset: 1, length: 2 } }),
  put: () => connector.put('key', patternBytes(3)),
  has: () => connector.has('key'),
  delete: () => connector.delete('key'),
  list: () => listed(connector, ''),
});

async function expectAll(calls: Record<string, () => Promise<unknown>>, expected: object): Promise<void> {
  for (const [name, call] of Object.entries(calls)) {
    await expect(call(), name).rejects.toMatchObject({ name: 'KvError', ...expected });
  }
}

const UNAVAILABLE = { code: 'KV_CONNECTOR_UNAVAILABLE', retryable: true };
const REFUSED = { code: 'KV_CONNECTOR_REFUSED', retryable: false };
const FORBIDDEN = { code: 'KV_PERMISSION', retryable: false };

/** Of a value that no buffer between the server and us can hold. */
const LARGE_BYTES = 96 * MIB;

/** Resolves when the first bytes of a value have arrived in `into`, which was all zeros. */
async function bytesIn(into: Uint8Array): Promise<void> {
  while (into[0] === 0) await new Promise(setImmediate);
}

describe('redis', () => {
  it('fault 1: refused connections give a code at once, over TCP and a Unix socket', async () => {
    const started = performance.now();
    await expectAll(verbs(open({ port: await freePort() })), UNAVAILABLE);
    await expectAll(verbs(open({ socketPath: '/nonexistent/socket' })), UNAVAILABLE);
    expect(performance.now() - started).toBeLessThan(1000);
  });

  it('fault 2: a wrong or missing password gives KV_PERMISSION and stands in no error', async () => {
    const server = await start({ config: [['requirepass', 'right']] });
    for (const options of [{}, { password: 'hush-hush' }, { username: 'nobody', password: 'hush-hush' }, { url: `redis://nobody:hush-hush@127.0.0.1:${server.port}` }]) {
      const connector = open({ port: server.port, ...options });
      await expectAll(verbs(connector), FORBIDDEN);
      for (const call of Object.values(verbs(connector))) {
        const error: unknown = await call().catch((cause: unknown) => cause);
        expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('hush-hush');
      }
    }
    const right = open({ port: server.port, password: async () => 'right' });
    await right.put('key', patternBytes(10));
    expect(await right.has('key')).toBe(true);
  });

  it('fault 2: a password function that fails gives KV_PERMISSION without what it threw', async () => {
    const server = await start();
    const connector = open({ port: server.port, password: () => Promise.reject(new Error('vault token hush-hush')) });
    await expectAll(verbs(connector), FORBIDDEN);
    const error: unknown = await connector.get('key').catch((cause: unknown) => cause);
    expect(inspect(error, { depth: 10 })).not.toContain('hush-hush');
  });

  it.skipIf(redis7 === undefined)('fault 2: over TLS (needs a redis-server on the PATH), a certificate that is not trusted or for another name gives KV_PERMISSION, and the password is not sent', async () => {
    const server = await start({ tls: true, config: [['user', 'kv', 'on', '>pw', '~*', '+@all']] });
    const access = { port: server.port, username: 'kv', password: 'pw' };
    await expectAll(verbs(open({ ...access, tls: true })), FORBIDDEN);
    await expectAll(verbs(open({ ...access, tls: { ca: server.certificate(), servername: 'another.example' } })), FORBIDDEN);
    expect(await server.command('INFO', 'commandstats')).not.toContain('cmdstat_auth');
    expect(await open({ ...access, tls: { ca: server.certificate() } }).has('key')).toBe(false);
    expect(await server.command('INFO', 'commandstats')).toContain('cmdstat_auth');
  });

  it('fault 3: what the access control list forbids gives KV_PERMISSION, and the rest works', async () => {
    const server = await start({ config: [['user', 'reader', 'on', '>pw', '~a*', '-@all', '+echo', '+get', '+exists']] });
    const writer = open({ port: server.port });
    await writer.put('a', patternBytes(1000));
    const reader = open({ port: server.port, username: 'reader', password: 'pw' });
    expectSameBytes(await reader.get('a'), patternBytes(1000));
    expect(await reader.has('a')).toBe(true);
    await expect(reader.put('a', patternBytes(1))).rejects.toMatchObject(FORBIDDEN);
    await expect(reader.delete('a')).rejects.toMatchObject(FORBIDDEN);
    await expect(reader.get('b')).rejects.toMatchObject(FORBIDDEN);
    await expect(reader.get('a', { range: { offset: 0, length: 5 } })).rejects.toMatchObject(FORBIDDEN);
    await expect(listed(reader, '')).rejects.toMatchObject(FORBIDDEN);
    expectSameBytes(await reader.get('a'), patternBytes(1000));
  });

  it.each([
    ['Redis', redis7 ?? redis6],
    ['Valkey', valkey9],
  ])('fault 4: SIGSTOP of %s in the middle of a reply ends the get by its deadline, and the memory is left alone', async (_, program) => {
    const server = await startRedis(program);
    onTestFinished(() => server.stop());
    const value = new Uint8Array(LARGE_BYTES).fill(7);
    const connector = open({ port: server.port });
    await connector.put('key', value);
    const into = new Uint8Array(LARGE_BYTES);
    const controller = new AbortController();
    const reason = new Error('the deadline is over');
    const get = expect(connector.get('key', { into, signal: controller.signal })).rejects.toBe(reason);
    await bytesIn(into);
    server.pause();
    let abortedAt = NaN;
    setTimeout(() => {
      abortedAt = performance.now();
      controller.abort(reason);
    }, 100);
    await get;
    expect(performance.now() - abortedAt).toBeLessThan(50);
    into.fill(0xa5);
    server.resume();
    expectSameBytes(await connector.get('key'), value);
    expect(into.every((byte) => byte === 0xa5)).toBe(true);
  });

  it('fault 5: SIGKILL in the middle of a reply gives KV_CONNECTOR_UNAVAILABLE at once', async () => {
    const server = await start();
    const connector = open({ port: server.port });
    await connector.put('key', new Uint8Array(LARGE_BYTES).fill(7));
    const intos = [new Uint8Array(LARGE_BYTES), new Uint8Array(LARGE_BYTES)];
    const gets = intos.map((into) => expect(connector.get('key', { into })).rejects.toMatchObject(UNAVAILABLE));
    await Promise.all(intos.map(bytesIn));
    const killed = performance.now();
    await server.kill();
    await Promise.all(gets);
    expect(performance.now() - killed).toBeLessThan(1000);
    await expectAll(verbs(connector), UNAVAILABLE);
  });

  it('fault 5: SIGKILL in the middle of a put leaves no half value', async () => {
    const server = await start();
    const connector = open({ port: server.port });
    await connector.put('key', patternBytes(100));
    const put = expect(connector.put('key', patternBytes(64 * MIB))).rejects.toMatchObject(UNAVAILABLE);
    await new Promise(setImmediate);
    await server.kill();
    await put;
    await server.restart();
    expect(await connector.get('key')).toBeUndefined();
  });

  it('fault 6: after a restart without its data every key is a miss, at the first call and without an error', async () => {
    const server = await start();
    const connector = open({ port: server.port });
    for (const verb of ['get', 'range', 'put', 'has', 'delete', 'list']) {
      await connector.put('key', patternBytes(1000));
      await Promise.all(Array.from({ length: 6 }, () => Promise.all([connector.get('key'), connector.has('key')])));
      await server.restart();
      const empty: unknown = { get: undefined, range: undefined, put: undefined, has: false, delete: false, list: [] }[verb];
      expect(await verbs(connector)[verb]?.(), verb).toEqual(empty);
    }
  });

  it('fault 7: a value that is evicted between two reads of it is a miss', async () => {
    const server = await start({ config: [['maxmemory', '24mb'], ['maxmemory-policy', 'allkeys-lru']] });
    const connector = open({ port: server.port });
    await connector.put('first', patternBytes(4 * MIB));
    expectSameBytes(await connector.get('first', { range: { offset: 0, length: 64 } }), patternBytes(64));
    for (let i = 0; i < 8; i++) await connector.put(`later/${i}`, patternBytes(4 * MIB, i));
    expect(await connector.get('first', { range: { offset: 64, length: 4096 } })).toBeUndefined();
    expect(await connector.get('first')).toBeUndefined();
    expect(await connector.has('first')).toBe(false);
    expectSameBytes(await connector.get('later/7'), patternBytes(4 * MIB, 7));
  });

  it('fault 8: a full server refuses a put with KV_NO_SPACE and keeps what it had', async () => {
    const server = await start({ config: [['maxmemory', '24mb'], ['maxmemory-policy', 'noeviction']] });
    const connector = open({ port: server.port });
    await connector.put('old', patternBytes(4 * MIB));
    const puts = Array.from({ length: 8 }, (_, i) => connector.put(`new/${i}`, patternBytes(4 * MIB)));
    const failed = (await Promise.allSettled(puts)).filter(({ status }) => status === 'rejected');
    expect(failed.length).toBeGreaterThan(0);
    for (const outcome of failed) expect(outcome).toMatchObject({ reason: { code: 'KV_NO_SPACE', retryable: false } });
    await expect(connector.put('old', patternBytes(4 * MIB, 1))).rejects.toMatchObject({ code: 'KV_NO_SPACE' });
    expectSameBytes(await connector.get('old'), patternBytes(4 * MIB));
    for (const { key } of await listed(connector, 'new/')) expect(await connector.delete(key)).toBe(true);
    // The server gives the buffers that the puts came through back after some seconds.
    const outcome = () => connector.put('old', patternBytes(4 * MIB, 2)).then(() => 'stored', ({ code }: { code: string }) => code);
    await expect.poll(outcome, { timeout: 10_000 }).toBe('stored');
  });

  it('fault 9: a value over the limit of the server is refused, and the next put works', async () => {
    const server = await start({ config: [['proto-max-bulk-len', '1mb']] });
    const connector = open({ port: server.port });
    for (let i = 0; i < 5; i++) {
      // The server hangs up while the value is on its way, so it depends on the moment whether its reply comes through.
      const error: unknown = await connector.put('key', patternBytes(4 * MIB)).catch((cause: unknown) => cause);
      expect(['KV_CONNECTOR_REFUSED', 'KV_CONNECTOR_UNAVAILABLE']).toContain((error as { code?: string }).code);
    }
    expect(await connector.has('key')).toBe(false);
    await connector.put('key', patternBytes(MIB - 64));
    expectSameBytes(await connector.get('key'), patternBytes(MIB - 64));
  });

  it('fault 9: a value over `maxValueBytes` is neither sent nor taken', async () => {
    const server = await start();
    const wide = open({ port: server.port });
    const narrow = open({ port: server.port, maxValueBytes: 1000 });
    await expect(narrow.put('key', patternBytes(1001))).rejects.toMatchObject(REFUSED);
    expect(await wide.has('key')).toBe(false);
    await wide.put('key', patternBytes(1001));
    await expect(narrow.get('key')).rejects.toMatchObject(REFUSED);
    await expect(narrow.get('key', { range: { offset: 0, length: 5000 } })).rejects.toMatchObject(REFUSED);
    expectSameBytes(await narrow.get('key', { range: { offset: 1, length: 1000 } }), patternBytes(1001).slice(1));
    await narrow.put('key', patternBytes(1000));
    expectSameBytes(await narrow.get('key'), patternBytes(1000));
  });

  it('fault 10: a replica refuses puts with KV_CONNECTOR_REFUSED and says what to do', async () => {
    const server = await start();
    const connector = open({ port: server.port });
    await connector.put('key', patternBytes(10));
    await server.command('REPLICAOF', '127.0.0.1', String(await freePort()));
    await expect(connector.put('key', patternBytes(20))).rejects.toMatchObject({ ...REFUSED, message: expect.stringContaining('master') });
    await expect(connector.delete('key')).rejects.toMatchObject(REFUSED);
    await server.command('REPLICAOF', 'NO', 'ONE');
    expectSameBytes(await connector.get('key'), patternBytes(10));
    await connector.put('key', patternBytes(20));
  });

  it('fault 10: a server that is busy with a script gives KV_CONNECTOR_UNAVAILABLE, and works after it', async () => {
    const server = await start({ config: [['lua-time-limit', '20']] });
    const connector = open({ port: server.port, timeoutMs: 5000 });
    await connector.put('key', patternBytes(10));
    const script = server.command('EVAL', 'while true do end', '0').catch(() => undefined);
    await server.command('PING').catch(() => undefined); // answered as soon as the limit of 20 ms has passed
    await expectAll(verbs(connector), UNAVAILABLE);
    await server.command('SCRIPT', 'KILL');
    await script;
    expectSameBytes(await connector.get('key'), patternBytes(10));
  });

  it('fault 10: a member of a cluster that is opened as a single server says which option to set', async () => {
    const server = await start({ config: [['cluster-enabled', 'yes']] });
    const connector = open({ port: server.port });
    await expectAll(verbs(connector), {}).catch(() => undefined);
    await expect(connector.get('key')).rejects.toMatchObject(UNAVAILABLE); // CLUSTERDOWN: it owns no slots
    await expectAll({ has: () => open({ port: server.port, cluster: true }).has('key') }, UNAVAILABLE);
    const alone = await start();
    await expectAll(verbs(open({ port: alone.port, cluster: true })), { ...REFUSED, message: expect.stringContaining('`cluster`') });
  });

  it('fault 12: a key that holds no string is refused by get, not taken for a miss, and not listed', async () => {
    const server = await start();
    const connector = open({ port: server.port });
    await server.command('RPUSH', 'key', 'not ours');
    await expect(connector.get('key')).rejects.toMatchObject({ ...REFUSED, message: expect.stringContaining('prefix') });
    await expect(connector.get('key', { range: { offset: 0, length: 3 } })).rejects.toMatchObject(REFUSED);
    expect(await listed(connector, '')).toEqual([]);
    await connector.put('other', patternBytes(10));
    expectSameBytes(await connector.get('other'), patternBytes(10));
  });

  it('fault 13: a range of a missing key is a miss, of an empty value empty, of a shorter value short', async () => {
    const server = await start();
    const connector = open({ port: server.port });
    const range = { offset: 100, length: 50 };
    expect(await connector.get('key', { range })).toBeUndefined();
    await connector.put('key', new Uint8Array(0));
    expectSameBytes(await connector.get('key', { range }), new Uint8Array(0));
    await connector.put('key', patternBytes(120));
    expectSameBytes(await connector.get('key', { range }), patternBytes(120).slice(100));
  });

  it('fault 13: ranges of a value that comes and goes are whole or a miss', async () => {
    const server = await start();
    const connector = open({ port: server.port });
    const range = { offset: 10, length: 1000 };
    let isWriting = true;
    let misses = 0;
    let hits = 0;
    const writer = (async () => {
      for (let i = 0; i < 200; i++) {
        await connector.put('key', patternBytes(2000));
        await connector.delete('key');
      }
      isWriting = false;
    })();
    while (isWriting) {
      for (const read of await Promise.all([1, 2, 3].map(() => connector.get('key', { range })))) {
        if (read !== undefined) expectSameBytes(read, patternBytes(2000).slice(10, 1010));
        if (read === undefined) misses++;
        else hits++;
      }
    }
    await writer;
    expect(Math.min(misses, hits)).toBeGreaterThan(0);
  });

  it('fault 14: a server that cuts the connection because of its output buffer limit gives KV_CONNECTOR_UNAVAILABLE', async () => {
    const server = await start({ config: [['client-output-buffer-limit', 'normal 1mb 1mb 1']] });
    const connector = open({ port: server.port });
    await connector.put('key', patternBytes(32 * MIB));
    await connector.put('small', patternBytes(1000));
    await expect(connector.get('key')).rejects.toMatchObject(UNAVAILABLE);
    expectSameBytes(await connector.get('small'), patternBytes(1000));
  });

  it('fault 40: of two connectors that write one key each get gives one whole value', async () => {
    const server = await start();
    const values = [patternBytes(MIB, 1), patternBytes(2 * MIB, 2)];
    const seen = new Set<number>();
    let isWriting = true;
    const writers = values.map(async (value) => {
      const writer = open({ port: server.port });
      for (let i = 0; i < 60; i++) await writer.put('key', value);
    });
    const done = Promise.all(writers).finally(() => (isWriting = false));
    const reader = open({ port: server.port });
    while (isWriting) {
      const value = await reader.get('key');
      if (value === undefined) continue; // before the first put
      expectSameBytes(value, values.find(({ byteLength }) => byteLength === value.byteLength) ?? new Uint8Array());
      seen.add(value.byteLength);
    }
    await done;
    expect(seen.size).toBe(2);
  });

  it('fault 41: a clock that jumps on our side does not change the time that values live', async () => {
    const server = await start();
    const connector = open({ port: server.port });
    const hour = 3_600_000;
    onTestFinished(() => void vi.useRealTimers());
    for (const jump of [24 * hour, -24 * hour]) {
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + jump });
      await connector.put('key', patternBytes(10), { ttlMs: hour });
      vi.useRealTimers();
      expectSameBytes(await connector.get('key'), patternBytes(10));
      const left = Number((await server.command('PTTL', 'key')).slice(1));
      expect(left).toBeLessThanOrEqual(hour);
      expect(left).toBeGreaterThan(hour - 30_000);
    }
  });

  it('fault 44: a server that is silent for a while is waited for within the time limit', async () => {
    const server = await start();
    const connector = open({ port: server.port });
    await connector.put('key', patternBytes(2 * MIB));
    server.pause();
    const gets = [connector.get('key'), connector.get('key', { range: { offset: 5, length: MIB } })];
    setTimeout(() => server.resume(), 300);
    const [whole, part] = await Promise.all(gets);
    expectSameBytes(whole, patternBytes(2 * MIB));
    expectSameBytes(part, patternBytes(2 * MIB).slice(5, MIB + 5));
  });

  it('fault 44: without a signal, a call ends with KV_CONNECTOR_TIMEOUT after `timeoutMs`', async () => {
    const server = await start();
    const connector = open({ port: server.port, timeoutMs: 200 });
    await connector.put('kept', patternBytes(10));
    server.pause();
    const started = performance.now();
    const calls = Object.values(verbs(connector)).map((call) => expect(call()).rejects.toMatchObject({ code: 'KV_CONNECTOR_TIMEOUT', retryable: true }));
    await Promise.all(calls);
    expect(performance.now() - started).toBeLessThan(250);
    server.resume();
    expectSameBytes(await connector.get('kept'), patternBytes(10));
  });

  it('fault 54: gets and puts that are aborted at any moment leave whole values, and no later call meets their bytes', async () => {
    const server = await start();
    const connector = open({ port: server.port, connections: 2 });
    const sizes = [0, 1, 1000, MIB + 1, 3 * MIB];
    await Promise.all(sizes.map((size) => connector.put(`key/${size}`, patternBytes(size, size))));
    let aborted = 0;
    for (let i = 0; i < 80; i++) {
      const controller = new AbortController();
      const { signal } = controller;
      const size = sizes[i % sizes.length] ?? 0;
      const calls = [connector.get(`key/${size}`, { signal }), connector.put(`key/${size}`, patternBytes(size, size), { signal })];
      for (let turns = i % 13; turns > 0; turns--) await new Promise(setImmediate);
      controller.abort();
      const outcomes = await Promise.allSettled(calls);
      aborted += outcomes.filter(({ status }) => status === 'rejected').length;
      const whole = sizes[(i * 7) % sizes.length] ?? 0;
      expectSameBytes(await connector.get(`key/${whole}`), patternBytes(whole, whole));
    }
    expect(aborted).toBeGreaterThan(10);
  });

  it('fault 55: close() under load lets the running calls end well and leaves no handle', async () => {
    const server = await start();
    const handles = () => process.getActiveResourcesInfo().filter((name) => /TCP|Timeout/.test(name)).length;
    const before = handles();
    const connector = redis({ port: server.port });
    await connector.put('key', patternBytes(MIB));
    const calls = Array.from({ length: 64 }, (_, i) => (i % 3 === 0 ? connector.has('key') : connector.get('key')));
    await connector.close();
    const outcomes = await Promise.all(calls);
    for (const outcome of outcomes) if (outcome !== true) expectSameBytes(outcome as Uint8Array, patternBytes(MIB));
    await expect(connector.get('key')).rejects.toMatchObject({ code: 'KV_CLOSED' });
    await expect.poll(handles).toBeLessThanOrEqual(before); // a socket's handle goes some turns after it
  });

  it('a server with too many clients says so', async () => {
    const server = await start({ config: [['maxclients', '2']] });
    const first = open({ port: server.port, connections: 2 });
    await first.put('key', patternBytes(1000));
    await first.get('key');
    const { get = async () => undefined, put = async () => undefined, ...others } = verbs(open({ port: server.port }));
    await expectAll({ get, put }, { ...UNAVAILABLE, message: expect.stringContaining('too many clients') });
    await expectAll(others, UNAVAILABLE);
    await first.close();
    const later = open({ port: server.port });
    await expect.poll(() => later.has('key').catch(() => undefined)).toBe(true);
  });

  it('a value with a time to live beyond counting is kept', async () => {
    const server = await start();
    const connector = open({ port: server.port });
    for (const ttlMs of [Infinity, 1e17, Number.MAX_SAFE_INTEGER, 0.5]) {
      await connector.put('key', patternBytes(10), { ttlMs });
      expect(await server.command('PTTL', 'key')).toMatch(ttlMs === 0.5 ? /^:([01]|-2)\r/ : ttlMs > Number.MAX_SAFE_INTEGER ? /^:-1\r/ : /^:90\d{14}\r/);
    }
  });

  it('puts do not hold up gets', async () => {
    const server = await start();
    const connector = open({ port: server.port, connections: 1 });
    await connector.put('key', patternBytes(1000));
    const order: string[] = [];
    const puts = Array.from({ length: 6 }, () => connector.put('large', patternBytes(32 * MIB)).then(() => order.push('put')));
    await connector.get('key').then(() => order.push('get'));
    await Promise.all(puts);
    expect(order.indexOf('get')).toBeLessThan(3);
  });

  it('a function as password is asked for each connection, so a new password is used without a restart', async () => {
    const server = await start({ config: [['requirepass', 'first']] });
    let password = 'first';
    const connector = open({ port: server.port, password: () => password });
    await connector.put('key', patternBytes(10));
    await connector.get('key');
    password = 'second';
    expectSameBytes(await connector.get('key'), patternBytes(10));
    await server.restart(); // knows the first one only
    await expect(connector.get('key')).rejects.toMatchObject(FORBIDDEN);
    password = 'first';
    expect(await connector.get('key')).toBeUndefined();
  });
});

