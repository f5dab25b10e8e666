import { describe, expect, it } from 'vitest';
import { memory } from '../../connectors/storage/memory.js';
import { throttle, type Clock, type ThrottleOptions } from '../../connectors/storage/throttle.js';
import { expectSameBytes, listed, patternBytes, storageConnectorContract } from '../contract/storage-connector.js';

let clock = 0;

storageConnectorContract('throttle', {
  make: () => throttle(memory({ now: () => clock }), { bytesPerSecond: 1e9, latencyMs: 1 }),
  advanceClock: (ms) => void (clock += ms),
});

/** A clock that jumps to the next sleeper as soon as nobody has anything else to do; each sleep may end late. */
function jumpingClock(lateMs = 0): Clock {
  let now = 0;
  let isJumping = false;
  const sleepers: { readonly wakeAt: number; wake(): void }[] = [];

  async function jump(): Promise<void> {
    isJumping = true;
    while (sleepers.length > 0) {
      await new Promise(setImmediate);
      sleepers.sort((a, b) => a.wakeAt - b.wakeAt);
      const next = sleepers.shift();
      now = Math.max(now, next?.wakeAt ?? now);
      next?.wake();
      await new Promise(setImmediate);
    }
    isJumping = false;
  }

  return {
    now: () => now,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        const sleeper = { wakeAt: now + ms + lateMs, wake: resolve };
        sleepers.push(sleeper);
        signal?.addEventListener('abort', () => {
          sleepers.splice(sleepers.indexOf(sleeper), 1);
          reject(signal.reason);
        });
        if (!isJumping) void jump();
      }),
  };
}

const MB = 1_000_000;

/** A throttled memory with a value of 1 MB and one of 10 KB in it, and the time that calls take by its clock. */
async function setUp(options: ThrottleOptions, lateMs = 0) {
  const time = jumpingClock(lateMs);
  const inner = memory();
  await inner.put('long', patternBytes(MB));
  await inner.put('short', patternBytes(10_000));
  const connector = throttle(inner, { ...options, clock: time });
  const tookMs = async (call: Promise<unknown>): Promise<number> => {
    const startedAt = time.now();
    await call;
    return time.now() - startedAt;
  };
  return { connector, tookMs };
}

describe('a throttle', () => {
  it('lets a value take as long as its bytes on the link and the latency', async () => {
    const { connector, tookMs } = await setUp({ bytesPerSecond: MB, latencyMs: 50 });
    expect(await tookMs(connector.get('long'))).toBeCloseTo(1050, 6);
    expect(await tookMs(connector.put('long', patternBytes(500_000)))).toBeCloseTo(550, 6);
    expect(await tookMs(connector.get('short', { range: { offset: 0, length: 1000 } }))).toBeCloseTo(51, 6);
  });

  it('lets calls without bytes take the latency', async () => {
    const { connector, tookMs } = await setUp({ bytesPerSecond: 1, latencyMs: 50 });
    for (const call of [() => connector.get('missing'), () => connector.has('long'), () => connector.delete('missing'), () => listed(connector, '')]) {
      expect(await tookMs(call())).toBe(50);
    }
  });

  it('takes no time if nothing is limited', async () => {
    const { connector, tookMs } = await setUp({});
    expect(await tookMs(connector.get('long'))).toBe(0);
  });

  it('shares the link evenly among calls at the same time', async () => {
    const { connector, tookMs } = await setUp({ bytesPerSecond: MB });
    const times = await Promise.all([1, 2, 3, 4].map(() => tookMs(connector.get('long'))));
    expect(Math.max(...times)).toBeCloseTo(4000, 6);
    expect(Math.min(...times)).toBeGreaterThan(3980);
  });

  it('does not hold up a short value behind a long one', async () => {
    const { connector, tookMs } = await setUp({ bytesPerSecond: MB });
    const [long, short] = await Promise.all([tookMs(connector.get('long')), tookMs(connector.get('short'))]);
    expect(short).toBeLessThan(25); // 10 ms of bytes, every other turn
    expect(long).toBeCloseTo(1010, 6);
  });

  it('carries gets and puts side by side', async () => {
    const { connector, tookMs } = await setUp({ bytesPerSecond: MB });
    const times = await Promise.all([tookMs(connector.get('long')), tookMs(connector.put('other', patternBytes(MB)))]);
    expect(Math.max(...times)).toBeCloseTo(1000, 6);
  });

  it('keeps its rate though timers fire late', async () => {
    const { connector, tookMs } = await setUp({ bytesPerSecond: MB }, 3);
    expect(await tookMs(connector.get('long'))).toBeLessThan(1010);
  });

  it('gives no credit for time that the link was idle', async () => {
    const { connector, tookMs } = await setUp({ bytesPerSecond: MB, latencyMs: 500 });
    for (let i = 0; i < 3; i++) expect(await tookMs(connector.get('short'))).toBeCloseTo(510, 6);
  });

  it('serves as many calls at once as it is told', async () => {
    const { connector, tookMs } = await setUp({ latencyMs: 50, concurrency: 2 });
    const times = await Promise.all(Array.from({ length: 6 }, () => tookMs(connector.has('long'))));
    expect(times.sort((a, b) => a - b)).toEqual([50, 50, 100, 100, 150, 150]);
  });

  it('lets an aborted call go at once, with its reason, and its share to the others', async () => {
    const { connector, tookMs } = await setUp({ bytesPerSecond: MB });
    const reason = new Error('changed my mind');
    const controller = new AbortController();
    const given = connector.get('long', { signal: controller.signal });
    const other = tookMs(connector.get('long'));
    const put = connector.put('other', patternBytes(MB), { signal: controller.signal });
    await new Promise(setImmediate);
    controller.abort(reason);
    await expect(given).rejects.toBe(reason);
    await expect(put).rejects.toBe(reason);
    expect(await other).toBeLessThan(1050);
    expect(await connector.has('other')).toBe(false);
  });

  it('carries no more of an aborted call whose turn it was', async () => {
    const { connector, tookMs } = await setUp({ bytesPerSecond: MB });
    const controller = new AbortController();
    const given = connector.get('long', { signal: controller.signal });
    await new Promise(setImmediate);
    controller.abort('enough');
    await expect(given).rejects.toBe('enough');
    expect(await tookMs(connector.get('long'))).toBeLessThan(1010);
  });

  it.each([{ latencyMs: 50_000 }, { bytesPerSecond: 1 }, { latencyMs: 50_000, concurrency: 1 }])('lets an aborted call go that waits by the machine\'s clock: %j', async (options) => {
    const inner = memory();
    await inner.put('key', patternBytes(1000));
    const connector = throttle(inner, options);
    const controllers = [1, 2].map(() => new AbortController());
    const calls = controllers.map(({ signal }) => connector.get('key', { signal }));
    controllers.forEach((controller, i) => controller.abort(i));
    expect(await Promise.allSettled(calls)).toEqual([{ status: 'rejected', reason: 0 }, { status: 'rejected', reason: 1 }]);
    await connector.close();
  });

  it('is as slow as it says by the machine\'s clock', async () => {
    const inner = memory();
    await inner.put('key', patternBytes(100_000));
    const connector = throttle(inner, { bytesPerSecond: MB, latencyMs: 20 });
    const startedAt = performance.now();
    expectSameBytes(await connector.get('key'), patternBytes(100_000));
    expect(performance.now() - startedAt).toBeGreaterThan(118);
  });

  it.each([{ bytesPerSecond: 0 }, { bytesPerSecond: NaN }, { latencyMs: -1 }, { latencyMs: Infinity }, { concurrency: 0 }, { concurrency: 1.5 }])('refuses %j', (options) => {
    expect(() => throttle(memory(), options)).toThrow(RangeError);
  });

  it('refuses an option that it does not know', () => {
    expect(() => throttle(memory(), { bandwidth: 5 } as object)).toThrow(TypeError);
  });
});
