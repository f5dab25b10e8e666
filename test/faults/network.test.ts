// Faults of the network between a connector and its server, a real one; their numbers are those of the fault list that all connectors share.
// Right bytes or a code, in time, and nothing left open.
import { execFile, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { KvStore } from '../../lib/index.js';
import type { CallOptions, StorageConnector } from '../../lib/store/connector.js';
import { expectSameBytes, listed, patternBytes } from '../contract/storage-connector.js';
import { PROVIDE_TIMEOUT_MS } from '../servers/provide.js';
import type { LossyReport } from './lossy-child.js';
import { NETWORK_STORES, type NetworkStore } from './network-stores.js';
import { startProxy, type Fault, type Proxy } from './proxy.js';

const ROOT = join(import.meta.dirname, '../..');
const VALUE = patternBytes(1 << 20);
const OTHER = patternBytes(1 << 20, 1);
const RANGE = { offset: 1000, length: 200_000 };
/** Of the connectors here. */
const TIME_LIMIT_MS = 5000;

const ENDED = new Error('the deadline is over');

/** An end of the connection, not of the call: to be tried again. */
const BROKEN = { name: 'KvError', code: expect.stringMatching(/^KV_CONNECTOR_(UNAVAILABLE|TIMEOUT)$/), retryable: true };

/** What a network namespace that loses packets takes. */
const canLosePackets = spawnSync('unshare', ['--net', 'sh', '-c', 'ip link set lo up && iptables -A INPUT -p tcp -m statistic --mode random --probability 0.01 -j DROP']).status === 0;
if (!canLosePackets) console.warn('fault 43, packet loss, is skipped: it needs root, unshare, iproute2 and iptables');

describe.each(['redis', 's3'] as const)('%s on a bad network', (name) => {
  let store: NetworkStore;
  let proxy: Proxy;
  let connector: StorageConnector;

  beforeAll(async () => {
    store = await NETWORK_STORES[name]();
  }, PROVIDE_TIMEOUT_MS);
  afterAll(() => store.stop());

  beforeEach(async () => {
    proxy = await startProxy({ port: store.port });
    connector = store.connect(proxy.port, randomUUID());
    await connector.put('key', VALUE);
  });

  afterEach(async () => {
    await proxy.set(undefined);
    await connector.close();
    await expect.poll(() => proxy.connections.open).toBe(0);
    await proxy.close();
  });

  const READS: readonly (readonly [(options?: CallOptions) => Promise<Uint8Array | undefined>, Uint8Array])[] = [
    [(options = {}) => connector.get('key', options), VALUE],
    [(options = {}) => connector.get('key', { ...options, into: new Uint8Array(VALUE.byteLength + 10) }), VALUE],
    [(options = {}) => connector.get('key', { ...options, range: RANGE }), VALUE.slice(RANGE.offset, RANGE.offset + RANGE.length)],
  ];

  /** All reads at once, now; each must give the right bytes. */
  function expectRightBytes(): Promise<unknown> {
    return Promise.all(READS.map(async ([read, bytes]) => expectSameBytes(await read(), bytes)));
  }

  /** What the call gives, or `ENDED` where a deadline in `ms` has ended it. Whether in time, a timer says: on a busy machine it comes as late as the call. */
  async function within<T>(ms: number, call: (options: CallOptions) => Promise<T>): Promise<T | Error> {
    const controller = new AbortController();
    let isOver = false;
    const isInTime = new Promise<boolean>((resolve) => {
      setTimeout(() => {
        controller.abort(ENDED);
        setTimeout(() => resolve(isOver), 50);
      }, ms);
    });
    const outcome = await call({ signal: controller.signal }).catch((cause: unknown) => {
      expect(cause).toBe(ENDED);
      return ENDED;
    });
    isOver = true;
    expect(await isInTime, 'is over 50 ms after its deadline').toBe(true);
    return outcome;
  }

  /** After a put of OTHER over VALUE of which nobody knows how far it came. */
  async function expectOldOrNew(key: string): Promise<void> {
    const value = await connector.get(key);
    expectSameBytes(value, value?.[0] === OTHER[0] ? OTHER : VALUE);
  }

  it('fault 41: a clock that jumps while a call waits moves no deadline', async () => {
    const geometry = { order: 'bytes', dtype: 'u8', layers: 1, kvHeads: 1, headDim: 1 } as const;
    const store = new KvStore({ connector, namespace: { model: 'm', geometry } });
    await proxy.set({ kind: 'blackhole' });
    onTestFinished(() => void vi.useRealTimers());
    for (const jumpMs of [3_600_000, -3_600_000]) {
      const start = performance.now();
      const fetch = expect(store.fetch('a1', { deadlineMs: 200 })).rejects.toMatchObject({ code: 'KV_CONNECTOR_TIMEOUT' });
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + jumpMs });
      await fetch;
      vi.useRealTimers();
      expect(performance.now() - start).toBeGreaterThan(190);
      expect(performance.now() - start).toBeLessThan(1000);
    }
  });

  const band = (bytesPerSecond: number, direction: 'toClient' | 'toServer' = 'toClient'): Fault => ({ kind: 'bandwidth', bytesPerSecond, direction });

  it('fault 42: bandwidth that falls to a fiftieth and rises again gives gets their bytes, or an end by their deadline', async () => {
    await proxy.set(band(50_000_000));
    await expectRightBytes();
    await proxy.set(band(1_000_000));
    const running = expectRightBytes();
    const into = new Uint8Array(VALUE.byteLength);
    expect(await within(200, (options) => connector.get('key', { ...options, into }))).toBe(ENDED);
    into.fill(0xa5);
    await proxy.set(band(50_000_000));
    await running;
    await expectRightBytes();
    expect(into.every((byte) => byte === 0xa5)).toBe(true);
  });

  it('fault 42: bandwidth that falls to a fiftieth and rises again lets puts go on, or end by their deadline with the old value or the new', async () => {
    await proxy.set(band(50_000_000, 'toServer'));
    await connector.put('first', OTHER);
    await proxy.set(band(1_000_000, 'toServer'));
    const running = connector.put('second', OTHER);
    expect(await within(200, (options) => connector.put('key', OTHER, options))).toBe(ENDED);
    await proxy.set(band(50_000_000, 'toServer'));
    await running;
    expectSameBytes(await connector.get('first'), OTHER);
    expectSameBytes(await connector.get('second'), OTHER);
    await expectOldOrNew('key');
  });

  it.skipIf(!canLosePackets)('fault 43: of a hundred packets one is lost: right bytes, or an end by the deadline (needs root, unshare, iproute2 and iptables)', { timeout: 60_000 }, async () => {
    const child = [process.execPath, join(ROOT, 'node_modules/vite-node/vite-node.mjs'), join(import.meta.dirname, 'lossy-child.ts'), name];
    const { stdout } = await promisify(execFile)('unshare', ['--net', ...child], { cwd: ROOT });
    const { lostPackets, right, failures, inTime, ended, overdue, open } = JSON.parse(stdout) as LossyReport;
    expect(failures).toEqual([]);
    expect({ right, hasty: inTime + ended, overdue, open }).toEqual({ right: 48, hasty: 120, overdue: 0, open: 0 });
    expect(lostPackets).toBeGreaterThan(100);
  });

  it('fault 44: a blackhole of two seconds ends every call by its deadline, and those that can wait get their bytes after it', async () => {
    await proxy.set({ kind: 'blackhole' });
    const patient = expectRightBytes();
    const into = new Uint8Array(VALUE.byteLength);
    expect(await within(200, (options) => connector.get('key', { ...options, into }))).toBe(ENDED);
    into.fill(0xa5);
    const calls: readonly ((options: CallOptions) => Promise<unknown>)[] = [
      (options) => connector.get('key', { ...options, range: RANGE }),
      (options) => connector.put('put', OTHER, options),
      (options) => connector.has('key', options),
      (options) => connector.delete('put', options),
      async (options) => {
        for await (const _ of connector.list('', options));
      },
    ];
    expect(await Promise.all(calls.map((call) => within(1800, call)))).toEqual(calls.map(() => ENDED));
    await proxy.set(undefined);
    await patient;
    await expectRightBytes();
    expect(into.every((byte) => byte === 0xa5)).toBe(true);
  });

  /** Puts and gets give right bytes or a code to try again, before any time limit; those that come when the fault is over, right bytes. */
  async function expectRecovery(fault: Fault): Promise<void> {
    await connector.put('put', VALUE);
    await proxy.set(fault);
    const start = performance.now();
    const unlessBroken = (cause: unknown): void => void expect(cause).toMatchObject(BROKEN);
    const reads = READS.map(async ([read, bytes]) => {
      const outcome = await read().catch(unlessBroken);
      if (outcome !== undefined) expectSameBytes(outcome, bytes);
    });
    await Promise.all([...reads, connector.put('put', OTHER).catch(unlessBroken)]);
    expect(performance.now() - start).toBeLessThan(TIME_LIMIT_MS);
    await proxy.set(undefined);
    await expectRightBytes();
    await expectOldOrNew('put');
    await connector.put('put', OTHER);
    expectSameBytes(await connector.get('put'), OTHER);
  }

  it('fault 1: refused connections, those that were open being reset, give a code in time, and right bytes when it is over', async () => {
    await expectRecovery({ kind: 'refuse' });
  });

  it.each([
    ['in an answer', { kind: 'reset', afterBytes: 100_000 }],
    ['in a request', { kind: 'reset', afterBytes: 100_000, direction: 'toServer' }],
    ['of idle and new connections', { kind: 'reset' }],
  ] as const)('fault 45: RST %s gives right bytes or a code in time, and right bytes when it is over', async (_, fault) => {
    await expectRecovery(fault);
  });

  it.each([
    ['half-close in an answer', { kind: 'half-close', afterBytes: 100_000 }],
    ['half-close in a request', { kind: 'half-close', afterBytes: 100_000, direction: 'toServer' }],
    ['half-close of idle and new connections', { kind: 'half-close' }],
    ['an end in an answer', { kind: 'truncate', afterBytes: 100_000 }],
    ['an end in a request', { kind: 'truncate', afterBytes: 100_000, direction: 'toServer' }],
  ] as const)('fault 46: %s gives right bytes or a code in time, and right bytes when it is over', async (_, fault) => {
    await expectRecovery(fault);
  });

  it.each(['toClient', 'toServer'] as const)('fault 47: jitter %s gives right bytes', async (direction) => {
    await proxy.set({ kind: 'delay', ms: 20, jitterMs: 30, direction });
    await Promise.all(Array.from({ length: 4 }, (_, i) => connector.put(`put/${i}`, patternBytes(50_000, i))));
    await expectRightBytes();
    const ranges = Array.from({ length: 8 }, (_, i) => ({ offset: i * 1000, length: 50_000 }));
    const reads = await Promise.all(ranges.map((range) => connector.get('key', { range })));
    for (const [i, read] of reads.entries()) expectSameBytes(read, VALUE.slice(i * 1000, i * 1000 + 50_000));
    for (let i = 0; i < 4; i++) expectSameBytes(await connector.get(`put/${i}`), patternBytes(50_000, i));
    expect((await listed(connector, 'put/')).map(({ key }) => key).sort()).toEqual(['put/0', 'put/1', 'put/2', 'put/3']);
  });

  it('fault 47: jitter around a deadline ends calls by it, or gives right bytes', async () => {
    await proxy.set({ kind: 'delay', ms: 0, jitterMs: 60 });
    const outcomes = await Promise.all(Array.from({ length: 20 }, (_, i) => within(5 * i, (options) => connector.get('key', { ...options, range: RANGE }))));
    for (const outcome of outcomes) if (!(outcome instanceof Error)) expectSameBytes(outcome, VALUE.slice(RANGE.offset, RANGE.offset + RANGE.length));
    expect(outcomes).toContain(ENDED);
    await proxy.set(undefined);
    await expectRightBytes();
  });
});
