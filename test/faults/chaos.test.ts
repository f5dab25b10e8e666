// Wrong bytes delivered: none, over more than 100,000 gets under random faults.
//
//   KV_CHAOS_SEED=N   replays the calls and faults of one run     KV_CHAOS_SCALE=N   N times as many gets
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { memory } from '../../connectors/storage/memory.js';
import { redis } from '../../connectors/storage/redis.js';
import { s3 } from '../../connectors/storage/s3.js';
import type { StorageConnector } from '../../lib/store/connector.js';
import { provideServers, PROVIDE_TIMEOUT_MS } from '../servers/provide.js';
import { startRedis, type RedisServer } from '../servers/redis.js';
import { BUCKET, OWNER, startSeaweed, type SeaweedServer } from '../servers/seaweedfs.js';
import { fileDisturber, networkDisturber, type Disturber } from './chaos-disturbers.js';
import { bytesSubject, objectsSubject } from './chaos-subjects.js';
import { runChaos, type ChaosReport } from './chaos.js';
import { startProxy, type Proxy } from './proxy.js';

const SEED = Number(process.env.KV_CHAOS_SEED ?? Math.floor(1e9 * Math.random()));
const SCALE = Number(process.env.KV_CHAOS_SCALE ?? 1);
const LIMIT_MS = 240_000 * Math.max(1, SCALE);

const base = mkdtempSync(join(tmpdir(), 'kvreel-chaos-'));
let redisServer: RedisServer;
let seaweed: SeaweedServer;
const reports: (ChaosReport & { readonly name: string })[] = [];

beforeAll(async () => {
  const { redis7, redis6, seaweedfs } = await provideServers();
  [redisServer, seaweed] = await Promise.all([startRedis(redis7 ?? redis6), startSeaweed(seaweedfs)]);
}, PROVIDE_TIMEOUT_MS);

afterAll(async () => {
  await Promise.all([redisServer.stop(), seaweed.stop()]);
  rmSync(base, { recursive: true, force: true });
  console.table(
    reports.map(({ name, gets, hits, misses, puts, rejections, failures, lateMs, overdue, ended, seconds }) => ({
      name, gets, hits, misses, rejected: Object.values(rejections).reduce((sum, n) => sum + n, 0), puts, 'at deadline': ended, overdue,
      'late p99.9': lateMs.p999.toFixed(0), failures: failures.length, seconds: seconds.toFixed(1),
    })),
  );
}, 60_000);

/** A store under chaos. */
interface Scene {
  readonly connector: StorageConnector;
  readonly disturber: Disturber;
  readonly proxy?: Proxy;
}

const SCENES: Readonly<Record<string, (withFlips: boolean) => Promise<Scene>>> = {
  async filesystem(withFlips) {
    const path = mkdtempSync(join(base, 'store-'));
    return { connector: filesystem({ path }), disturber: fileDisturber(path, withFlips) };
  },
  async redis(withFlips) {
    const proxy = await startProxy({ port: redisServer.port }, { seed: SEED });
    const events = {
      'lose all values': () => redisServer.command('FLUSHALL'),
      'close connections': () => redisServer.command('CLIENT', 'KILL', 'TYPE', 'normal'),
      restart: () => redisServer.restart(),
    };
    const connector = redis({ port: proxy.port, prefix: withFlips ? 'objects/' : 'bytes/' });
    return { connector, proxy, disturber: networkDisturber(proxy, { pause: redisServer.pause, resume: redisServer.resume, events }, withFlips) };
  },
  async s3(withFlips) {
    const proxy = await startProxy({ port: seaweed.port }, { seed: SEED });
    const connector = s3({ endpoint: `http://127.0.0.1:${proxy.port}`, bucket: BUCKET, prefix: withFlips ? 'objects' : 'bytes', credentials: OWNER });
    return { connector, proxy, disturber: networkDisturber(proxy, seaweed, withFlips) };
  },
};

/** What holds a file, a socket or a timer open in this process. */
function held(): { readonly descriptors: number; readonly resources: readonly string[] } {
  const resources = process.getActiveResourcesInfo().filter((name) => /TCP|Pipe|FSReq|FileHandle/.test(name));
  return { descriptors: readdirSync('/proc/self/fd').length, resources: resources.sort() };
}

describe(`chaos, seed ${SEED}`, () => {
  it.each([
    ['filesystem', 'bytes', 40_000, 150],
    ['filesystem', 'objects', 12_000, 150],
    ['redis', 'bytes', 34_000, 150],
    ['redis', 'objects', 10_000, 150],
    ['s3', 'bytes', 4000, 400],
    ['s3', 'objects', 2000, 400],
  ] as const)('%s, %s: right bytes or a miss, in time, and nothing left open', { timeout: LIMIT_MS }, async (name, level, gets, deadlineMs) => {
    const withFlips = level === 'objects';
    const before = held();
    const { connector, disturber, proxy } = (await SCENES[name]?.(withFlips)) ?? {};
    if (connector === undefined || disturber === undefined) throw new Error(`no scene ${name}`);
    const subject = withFlips ? objectsSubject(connector) : bytesSubject(connector);
    const report = await runChaos(subject, disturber, { seed: SEED, gets: gets * SCALE, deadlineMs });
    await proxy?.close();
    reports.push({ name: `${name} ${level}`, ...report });
    console.log(JSON.stringify(report));

    expect(report.failures).toEqual([]);
    expect(report.gets).toBeGreaterThanOrEqual(gets * SCALE);
    expect(report.hits).toBeGreaterThan(report.gets / 50);
    expect(report.overdue).toBeLessThanOrEqual(report.gets / 1000);
    expect(report.notRecovered).toBe(0);
    expect(report.closeMs).toBeLessThan(1000);
    await vi.waitFor(() => expect(held()).toEqual(before), { timeout: 1000 });
  });
});

describe('the harness notices', () => {
  const quiet: Disturber = { everyMs: 10, next: () => 'none', calm: async () => undefined };
  const run = (change: (inner: StorageConnector) => Partial<StorageConnector>): Promise<ChaosReport> => {
    const inner = memory();
    return runChaos(bytesSubject({ ...inner, ...change(inner) }), quiet, { seed: 1, gets: 2000, deadlineMs: 30, concurrency: 8 });
  };

  it('nothing where nothing is wrong', async () => {
    const { failures, overdue, notRecovered, hits } = await run(() => ({}));
    expect({ failures, overdue, notRecovered }).toEqual({ failures: [], overdue: 0, notRecovered: 0 });
    expect(hits).toBeGreaterThan(1000);
  });

  it('one wrong bit in one of a hundred values', async () => {
    let gets = 0;
    const { failures } = await run((inner) => ({
      async get(key, options) {
        const value = await inner.get(key, options);
        if (value !== undefined && value.byteLength > 0 && ++gets % 100 === 0) value[value.byteLength >> 1] = (value[value.byteLength >> 1] ?? 0) ^ 1;
        return value;
      },
    }));
    expect(failures[0]).toContain('of no version');
  });

  it('the value of another key', async () => {
    let gets = 0;
    const { failures } = await run((inner) => ({ get: (key, options) => inner.get(++gets % 100 === 0 ? 'chaos/0' : key, options) }));
    expect(failures[0]).toContain('of no version');
  });

  it('calls that settle late', async () => {
    let gets = 0;
    const late = (): Promise<unknown> => (++gets % 100 === 0 ? once(AbortSignal.timeout(120), 'abort') : Promise.resolve());
    const { overdue } = await run((inner) => ({ get: async (key, { signal: _, ...options } = {}) => late().then(() => inner.get(key, options)) }));
    expect(overdue).toBeGreaterThan(0);
  });

  it('an error without a code', async () => {
    let gets = 0;
    const { failures } = await run((inner) => ({
      async get(key, options) {
        if (++gets === 100) throw new TypeError('cannot read properties of undefined');
        return inner.get(key, options);
      },
    }));
    expect(failures[0]).toContain('cannot read properties');
  });

  it('a store that does not come back', async () => {
    const { notRecovered } = await run((inner) => ({ get: async (key, options) => (key === 'chaos/7' ? undefined : inner.get(key, options)) }));
    expect(notRecovered).toBe(1);
  });
});
