import { Registry } from 'prom-client';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { breaker, PROBE_KEY, type BreakerOptions, type BreakerState } from '../../connectors/storage/breaker.js';
import { encrypted } from '../../connectors/storage/encrypted.js';
import { measured } from '../../connectors/storage/measured.js';
import { prometheusSink } from '../../connectors/storage/measured/prometheus.js';
import { memory } from '../../connectors/storage/memory.js';
import { redis } from '../../connectors/storage/redis.js';
import { throttle } from '../../connectors/storage/throttle.js';
import { KvError } from '../../lib/errors.js';
import type { CallOptions, StorageConnector } from '../../lib/store/connector.js';
import { expectSameBytes, listed, patternBytes, storageConnectorContract } from '../contract/storage-connector.js';
import { provideServers, PROVIDE_TIMEOUT_MS } from '../servers/provide.js';
import { startRedis, type RedisServer } from '../servers/redis.js';
import { freePort } from '../servers/server.js';

let clock = 0;

storageConnectorContract('breaker', {
  make: () => breaker(memory({ now: () => clock })),
  advanceClock: (ms) => void (clock += ms),
});

const DOWN = new KvError('KV_CONNECTOR_UNAVAILABLE', 'nobody answers');
const hanging = (): Promise<never> => new Promise(() => undefined);

/** A memory connector whose far end can be made to fail, and that counts what reaches it. */
function farEnd() {
  const inner = memory();
  const calls: string[] = [];
  let answer: ((options: CallOptions) => Promise<never>) | undefined;

  async function pass<T>(verb: string, key: string, options: CallOptions, work: () => Promise<T>): Promise<T> {
    calls.push(`${verb} ${key}`);
    return answer === undefined ? work() : answer(options);
  }

  const connector: StorageConnector = {
    ...inner,
    get: (key, options = {}) => pass('get', key, options, () => inner.get(key, options)),
    put: (key, value, options = {}) => pass('put', key, options, () => inner.put(key, value, options)),
    has: (key, options = {}) => pass('has', key, options, () => inner.has(key, options)),
    async *list(prefix, options = {}) {
      await pass('list', prefix, options, async () => undefined);
      yield* inner.list(prefix, options);
    },
  };
  return {
    connector,
    calls,
    probes: () => calls.filter((call) => call === `has ${PROBE_KEY}`).length,
    fail: (error: unknown = DOWN) => void (answer = () => Promise.reject(error)),
    /** Every call waits for its caller to give up. */
    stall: () =>
      void (answer = ({ signal }) =>
        new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)))),
    hang: () => void (answer = hanging),
    /** Every call is answered when `recover` has been called and then what this returns. */
    hold: () => {
      let release = (): void => undefined;
      const held = new Promise<void>((resolve) => (release = resolve));
      answer = () => held as Promise<never>;
      return release;
    },
    recover: () => void (answer = undefined),
  };
}

/** A breaker in front of such a far end, and the changes that it told of. */
function setUp(options: BreakerOptions = {}) {
  const far = farEnd();
  const changes: BreakerState[] = [];
  const connector = breaker(far.connector, { ...options, onStateChange: (state) => changes.push(state) });
  const states = () => changes.map(({ state }) => state);
  return { ...far, connector, changes, states };
}

async function failTimes(connector: StorageConnector, times: number, error: unknown = DOWN): Promise<void> {
  for (let i = 0; i < times; i++) await expect(connector.get('key')).rejects.toBe(error);
}

afterEach(() => void vi.useRealTimers());

describe('a breaker', () => {
  it('refuses calls at once after three failures in a row, and none of them reaches the far end', async () => {
    const { connector, calls, fail, changes } = setUp();
    fail();
    await failTimes(connector, 3);
    expect(connector.state()).toMatchObject({ state: 'open', failures: 3 });
    const before = calls.length;
    for (let i = 0; i < 1000; i++) await expect(connector.has('key')).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE', retryable: true });
    await expect(connector.put('key', patternBytes(1))).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    await expect(connector.delete('key')).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    await expect(listed(connector, '')).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    expect(calls.length).toBe(before);
    expect(changes).toEqual([connector.state()]);
    await connector.close();
  });

  it('says since when, when it looks again, and what failed', async () => {
    vi.useFakeTimers({ now: new Date('2026-11-21T12:00:00Z') });
    const { connector, fail } = setUp();
    fail();
    await failTimes(connector, 3);
    const refusal: unknown = await connector.get('key').catch((error: unknown) => error);
    expect(refusal).toMatchObject({ cause: DOWN, message: expect.stringMatching(/^memory is taken as down since 2026-11-21T12:00:00.000Z; it is tried again in 1[012]\d\d ms/) });
    expect(connector.state().sinceMs).toBe(Date.parse('2026-11-21T12:00:00Z'));
    await connector.close();
  });

  it('counts only failures without an answer between them; a miss is an answer', async () => {
    const { connector, fail, recover } = setUp();
    for (let i = 0; i < 4; i++) {
      fail();
      await failTimes(connector, 2);
      recover();
      expect(await connector.get('missing')).toBeUndefined();
    }
    expect(connector.state()).toMatchObject({ state: 'closed', failures: 0 });
  });

  it('counts only failures within the window', async () => {
    vi.useFakeTimers();
    const { connector, fail } = setUp({ windowMs: 1000 });
    fail();
    for (let i = 0; i < 5; i++) {
      await failTimes(connector, 1);
      vi.advanceTimersByTime(600);
    }
    expect(connector.state()).toMatchObject({ state: 'closed', failures: 2 });
    await failTimes(connector, 2);
    expect(connector.state().state).toBe('open');
    await connector.close();
  });

  it('counts a failed list, and takes one that gives something as an answer', async () => {
    const { connector, fail, recover } = setUp({ failures: 2 });
    await connector.put('key', patternBytes(1));
    fail();
    await expect(listed(connector, '')).rejects.toBe(DOWN);
    recover();
    const values = connector.list('')[Symbol.asyncIterator]();
    await values.next();
    expect(connector.state().failures).toBe(0);
    fail();
    await expect(listed(connector, '')).rejects.toBe(DOWN);
    await expect(listed(connector, '')).rejects.toBe(DOWN);
    expect(connector.state().state).toBe('open');
    await connector.close();
  });

  it('knows a failure by `retryable`, not by its class', async () => {
    const { connector, fail } = setUp();
    const foreign = Object.assign(new Error('slow down'), { code: 'KV_OVERLOADED', retryable: true });
    fail(foreign);
    await failTimes(connector, 3, foreign);
    expect(connector.state().state).toBe('open');
    await connector.close();
  });

  it.each(['KV_PERMISSION', 'KV_CORRUPT_OBJECT', 'KV_NO_SPACE'] as const)('takes %s as an answer', async (code) => {
    const { connector, fail } = setUp();
    const answer = new KvError(code, 'no');
    fail();
    await failTimes(connector, 2);
    fail(answer);
    await failTimes(connector, 5, answer);
    fail();
    await failTimes(connector, 2);
    expect(connector.state()).toMatchObject({ state: 'closed', failures: 2 });
  });

  it.each([new TypeError('expected a key'), new KvError('KV_CLOSED', 'closed')])("learns nothing from a caller's mistake: %s", async (mistake) => {
    const { connector, fail } = setUp();
    fail();
    await failTimes(connector, 2);
    fail(mistake);
    await failTimes(connector, 5, mistake);
    expect(connector.state()).toMatchObject({ state: 'closed', failures: 2 });
  });

  it('learns nothing from a caller who gives up, before the call or during it', async () => {
    const { connector, stall, calls } = setUp();
    stall();
    const reason = new Error('changed my mind');
    for (let i = 0; i < 5; i++) {
      const controller = new AbortController();
      const call = connector.get('key', { signal: controller.signal });
      controller.abort(reason);
      await expect(call).rejects.toBe(reason);
      await expect(connector.get('key', { signal: AbortSignal.abort(new KvError('KV_CONNECTOR_TIMEOUT', 'too late')) })).rejects.toMatchObject({ code: 'KV_CONNECTOR_TIMEOUT' });
    }
    expect(connector.state()).toMatchObject({ state: 'closed', failures: 0 });
    expect(calls).toHaveLength(5);
  });

  it.each([
    ['a deadline of a store', (controller: AbortController) => controller.abort(new KvError('KV_CONNECTOR_TIMEOUT', 'too late'))],
    ['AbortSignal.timeout', (controller: AbortController) => controller.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError'))],
  ])('counts the end of %s, also where the connector takes no notice of it', async (_, end) => {
    const { connector, hang } = setUp();
    hang();
    for (let i = 0; i < 3; i++) {
      const controller = new AbortController();
      const call = connector.get('key', { signal: controller.signal });
      end(controller);
      await expect(call).rejects.toBe(controller.signal.reason);
    }
    expect(connector.state().state).toBe('open');
  });

  it("gives a caller's reason while it is open, too", async () => {
    const { connector, fail } = setUp();
    fail();
    await failTimes(connector, 3);
    const reason = new Error('changed my mind');
    await expect(connector.get('key', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await connector.close();
  });
});

describe('the probes of an open breaker', () => {
  it('run at most once in probeMs, without calls, and let calls pass after the first answer', async () => {
    vi.useFakeTimers();
    const { connector, fail, recover, probes, states } = setUp({ probeMs: 500 });
    await connector.put('key', patternBytes(10));
    fail();
    await failTimes(connector, 3);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(probes()).toBeGreaterThanOrEqual(Math.floor(10_000 / 600));
    expect(probes()).toBeLessThanOrEqual(20);
    recover();
    await vi.advanceTimersByTimeAsync(600);
    expectSameBytes(await connector.get('key'), patternBytes(10));
    expect(states().slice(0, 3)).toEqual(['open', 'half-open', 'open']);
    expect(states().slice(-2)).toEqual(['half-open', 'closed']);
    const before = probes();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(probes()).toBe(before);
  });

  it.each(['hang', 'stall'] as const)('end the refusals within 5 s of recovery, though one of them %ss', async (how) => {
    vi.useFakeTimers();
    const { connector, fail, recover, probes, ...far } = setUp();
    fail();
    await failTimes(connector, 3);
    far[how]();
    while (connector.state().state !== 'half-open') await vi.advanceTimersByTimeAsync(10);
    recover();
    await expect(connector.has('key')).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    await vi.advanceTimersByTimeAsync(5000);
    expect(connector.state().state).toBe('closed');
    expect(probes()).toBe(2);
  });

  it('take any answer, such as that it may not look', async () => {
    vi.useFakeTimers();
    const { connector, fail } = setUp();
    fail();
    await failTimes(connector, 3);
    fail(new KvError('KV_PERMISSION', 'no'));
    await vi.advanceTimersByTimeAsync(1200);
    expect(connector.state().state).toBe('closed');
  });

  it('leave a far end that still fails calls with one failure until it is refused again, and with three once it answered one', async () => {
    vi.useFakeTimers();
    const { connector, fail, recover } = setUp();
    for (const failures of [3, 1, 1]) {
      fail();
      await failTimes(connector, failures);
      expect(connector.state().state).toBe('open');
      recover();
      await vi.advanceTimersByTimeAsync(1200);
      expect(connector.state().state).toBe('closed');
    }
    await connector.get('key');
    fail();
    await failTimes(connector, 2);
    expect(connector.state().state).toBe('closed');
  });

  it('are not outdone by calls that began before and fail late', async () => {
    vi.useFakeTimers();
    const { connector, fail, stall, recover } = setUp();
    stall();
    const callers = Array.from({ length: 8 }, () => new AbortController());
    const old = callers.map(({ signal }) => connector.get('key', { signal }));
    fail();
    await failTimes(connector, 3);
    recover();
    await vi.advanceTimersByTimeAsync(1200);
    for (const caller of callers) caller.abort(new KvError('KV_CONNECTOR_TIMEOUT', 'too late'));
    for (const call of old) await expect(call).rejects.toMatchObject({ code: 'KV_CONNECTOR_TIMEOUT' });
    expect(connector.state().state).toBe('closed');
    expect(await connector.get('key')).toBeUndefined();
  });

  it('are not outdone by calls that began before and succeed late', async () => {
    vi.useFakeTimers();
    const { connector, fail, hold, recover } = setUp();
    const release = hold();
    const old = connector.get('key');
    fail();
    await failTimes(connector, 3);
    recover();
    await vi.advanceTimersByTimeAsync(1200);
    expect(connector.state()).toMatchObject({ state: 'closed', failures: 2 });
    release();
    await old;
    expect(connector.state().failures).toBe(2);
  });

  it('end with close(), which leaves no timer, and calls are then KV_CLOSED', async () => {
    vi.useFakeTimers();
    const { connector, fail, calls } = setUp();
    fail();
    await failTimes(connector, 3);
    expect(vi.getTimerCount()).toBe(1);
    await connector.close();
    expect(vi.getTimerCount()).toBe(0);
    const before = calls.length;
    await vi.advanceTimersByTimeAsync(10_000);
    expect(calls.length).toBe(before);
    await expect(connector.get('key')).rejects.toMatchObject({ code: 'KV_CLOSED' });
  });

  it('do not go on if one was under way at close()', async () => {
    vi.useFakeTimers();
    const { connector, fail, stall, states } = setUp();
    fail();
    await failTimes(connector, 3);
    stall();
    await vi.advanceTimersByTimeAsync(1200);
    expect(states()).toEqual(['open', 'half-open']);
    await connector.close();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(states()).toEqual(['open', 'half-open']);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('do not keep the process alive', async () => {
    const { connector, fail } = setUp();
    const timers = () => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
    fail();
    await failTimes(connector, 2);
    const before = timers();
    await failTimes(connector, 1);
    expect(timers()).toBe(before);
    await connector.close();
  });
});

describe('in front of a real server', () => {
  let server: RedisServer;

  beforeAll(async () => {
    const { redis6, redis7 } = await provideServers();
    server = await startRedis(redis7 ?? redis6);
  }, PROVIDE_TIMEOUT_MS);

  afterAll(() => server.stop());

  it.each([
    ['is killed and started again', () => server.kill(), () => server.restart()],
    ['stalls and goes on', async () => server.pause(), async () => server.resume()],
  ])('that %s, a breaker opens, and closes within 5 s of its return', async (_, begin, end) => {
    const connector = breaker(redis({ port: server.port, timeoutMs: 400 }));
    await connector.put('key', patternBytes(1000));
    await begin();
    while (connector.state().state === 'closed') await expect(connector.get('key')).rejects.toMatchObject({ retryable: true });
    const waits = await Promise.all(Array.from({ length: 100 }, () => timeOf(connector.get('key'))));
    expect(Math.max(...waits)).toBeLessThan(200); // no call waits for the server, whose limit is 400 ms
    await end();
    const backAt = performance.now();
    while (connector.state().state !== 'closed') await new Promise(setImmediate);
    expect(performance.now() - backAt).toBeLessThan(5000);
    await connector.put('key', patternBytes(2000));
    expectSameBytes(await connector.get('key'), patternBytes(2000));
    await connector.close();
  });

  const LIVES = `
    for _, key in ipairs(redis.call('KEYS', '*')) do
      local left = redis.call('PTTL', key)
      if left >= 0 then redis.call('PEXPIRE', key, left - ARGV[1]) end
    end
    return 1`;

  const everyWrapper = (port: number): StorageConnector => {
    const inner = encrypted(redis({ port }), { keys: { k1: new Uint8Array(32).fill(1) }, writeKeyId: 'k1' });
    return measured(breaker(throttle(inner, { bytesPerSecond: 1e9 })), prometheusSink(new Registry()));
  };

  storageConnectorContract('every wrapper on redis', {
    async make() {
      await server.command('FLUSHALL');
      return everyWrapper(server.port);
    },
    unreachable: async () => everyWrapper(await freePort()),
    stall: () => {
      server.pause();
      return () => server.resume();
    },
    advanceClock: async (ms) => void (await server.command('EVAL', LIVES, '0', String(ms))),
  });
});

/** Milliseconds until a call that is to be refused is. */
async function timeOf(call: Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await expect(call).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
  return performance.now() - startedAt;
}

describe('the options of a breaker', () => {
  it.each([{ failures: 0 }, { failures: 1.5 }, { windowMs: 0 }, { windowMs: NaN }, { probeMs: -1 }, { probeMs: Infinity }])('%j is refused', (options) => {
    expect(() => breaker(memory(), options)).toThrow(RangeError);
  });

  it('that it does not know are refused, and so is a listener that is none', () => {
    expect(() => breaker(memory(), { retries: 3 } as object)).toThrow(TypeError);
    expect(() => breaker(memory(), { onStateChange: 'log' } as object)).toThrow(TypeError);
  });
});
