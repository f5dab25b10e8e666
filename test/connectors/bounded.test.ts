import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { bounded, type BoundedOptions } from '../../connectors/storage/bounded.js';
import { expiryQueue } from '../../connectors/storage/expiry-queue.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { memory } from '../../connectors/storage/memory.js';
import { KvError } from '../../lib/errors.js';
import type { CallOptions, ListedValue, StorageConnector } from '../../lib/store/connector.js';
import { expectSameBytes, listed, patternBytes, storageConnectorContract } from '../contract/storage-connector.js';
import { gate, hang } from './pending.js';

const GIB = 2 ** 30;

let clock = 0;
const now = (): number => clock;
const advanceClock = (ms: number): void => void (clock += ms);

let path = '';
const freshPath = (): string => (path = mkdtempSync(join(tmpdir(), 'kvreel-bounded-')));
const dispose = (): void => rmSync(path, { recursive: true, force: true });

let contractFar: ReturnType<typeof farEnd>;

storageConnectorContract('bounded memory', { make: () => bounded(memory({ now }), { maxBytes: GIB, now }), advanceClock });
storageConnectorContract('bounded over a far end without a time to live', {
  make: () => bounded((contractFar = farEnd()).connector, { maxBytes: GIB, now }),
  advanceClock,
  stall() {
    contractFar.before = (_verb, _key, options) => hang(options);
    return () => void (contractFar.before = async () => undefined);
  },
});
storageConnectorContract('bounded filesystem', { make: () => bounded(filesystem({ path: freshPath() }), { maxBytes: GIB, now }), advanceClock, dispose });
storageConnectorContract('bounded memory with quotas, as full as a value fills it', {
  make: () => bounded(memory({ now }), { maxBytes: 9 * 2 ** 20, quota: { maxBytes: 9 * 2 ** 20, groupOf: (key) => key.slice(0, 1) }, now }),
  advanceClock,
});

type Verb = 'get' | 'put' | 'has' | 'delete' | 'list';

/** A memory connector without a time to live, which counts what it holds and lets a test step into its calls. */
function farEnd() {
  const inner = memory();
  const ages = new Map<string, number>();
  const far = {
    /** Runs before each call; what it throws, the call rejects with. */
    before: async (_verb: Verb, _key: string, _options: CallOptions): Promise<void> => undefined,
    /** Runs after each call that had its effect. */
    after: async (_verb: Verb, _key: string): Promise<void> => undefined,
    calls: [] as string[],
    ages,
    inner,
    connector: {} as StorageConnector,
  };
  async function pass<T>(verb: Verb, key: string, options: CallOptions = {}, work: () => Promise<T>): Promise<T> {
    far.calls.push(`${verb} ${key}`);
    await far.before(verb, key, options);
    const result = await work();
    await far.after(verb, key);
    return result;
  }
  far.connector = {
    ...inner,
    supports: { range: true, ttl: false },
    get: (key, options) => pass('get', key, options, () => inner.get(key, options)),
    has: (key, options) => pass('has', key, options, () => inner.has(key, options)),
    put: (key, value, options) => pass('put', key, options, () => inner.put(key, value, options)),
    delete: (key, options) => pass('delete', key, options, () => inner.delete(key, options)),
    async *list(prefix, options): AsyncGenerator<ListedValue> {
      await pass('list', prefix, options, async () => undefined);
      for await (const value of inner.list(prefix, options)) {
        const storedAtMs = ages.get(value.key);
        yield storedAtMs === undefined ? value : { ...value, storedAtMs };
      }
    },
  };
  return far;
}

const keysOf = async (connector: StorageConnector): Promise<string[]> => (await listed(connector, '')).map(({ key }) => key);
const down = (): KvError => new KvError('KV_CONNECTOR_UNAVAILABLE', 'nobody answers');
const UP_TO_TURNS = 3;

/** Lets others run, a few turns of the event loop. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(setImmediate);
}

let far = farEnd();
beforeEach(() => {
  far = farEnd();
  clock = 0;
});

const store = (options: Partial<BoundedOptions> = {}) => bounded(far.connector, { maxBytes: 100, now, ...options });

describe('the bound', () => {
  it('makes the value go that was not used for the longest time; a get is a use, a look is none', async () => {
    const connector = store();
    for (const key of ['a', 'b', 'c', 'd']) await connector.put(key, patternBytes(25));
    await connector.get('a');
    await connector.get('b', { range: { offset: 3, length: 1 } });
    await connector.has('c');
    await connector.put('e', patternBytes(25));
    expect(await keysOf(connector)).toEqual(['a', 'b', 'd', 'e']);
    await connector.put('f', patternBytes(26));
    expect(await keysOf(connector)).toEqual(['b', 'e', 'f']);
    expect(connector.stats()).toMatchObject({ bytes: 76, entries: 3, evictions: 3 });
  });

  it('is kept before a value is written, not after', async () => {
    const connector = store();
    await connector.put('old', patternBytes(60));
    far.calls.length = 0;
    await connector.put('new', patternBytes(60));
    expect(far.calls).toEqual(['delete old', 'put new']);
  });

  it('counts a replaced value once, and never makes it go for its successor', async () => {
    const connector = store();
    for (const size of [100, 1, 100, 99]) await connector.put('key', patternBytes(size));
    expect(connector.stats()).toMatchObject({ bytes: 99, entries: 1, evictions: 0 });
    await connector.put('another', patternBytes(1));
    await connector.put('key', patternBytes(100));
    expect(await listed(connector, '')).toEqual([{ key: 'key', bytes: 100 }]);
  });

  it('counts a deleted value no longer', async () => {
    const connector = store();
    await connector.put('key', patternBytes(100));
    await connector.delete('key');
    expect(connector.stats()).toMatchObject({ bytes: 0, entries: 0 });
  });

  it('refuses a value that alone is larger, and keeps what it had', async () => {
    const connector = store({ quota: { maxBytes: 50, groupOf: () => 'all' } });
    await connector.put('key', patternBytes(50));
    for (const size of [51, 101]) await expect(connector.put('key', patternBytes(size))).rejects.toMatchObject({ code: 'KV_NO_SPACE', retryable: false });
    expectSameBytes(await connector.get('key'), patternBytes(50));
    expect(connector.stats()).toMatchObject({ bytes: 50, refused: 2, evictions: 0 });
  });

  it('is never passed by 64 puts at once, whose values come back or are missed', async () => {
    let held = 0;
    let most = 0;
    const sizes = new Map<string, number>();
    const inner = memory();
    const slow: StorageConnector = {
      ...inner,
      async put(key, value, options) {
        // As on a disk, old and new exist side by side until the new one is published.
        held += value.byteLength;
        most = Math.max(most, held - Math.min(value.byteLength, sizes.get(key) ?? 0));
        await turns(value.byteLength % UP_TO_TURNS);
        held -= sizes.get(key) ?? 0;
        sizes.set(key, value.byteLength);
        await inner.put(key, value, options);
      },
      async delete(key, options) {
        await turns(key.length % UP_TO_TURNS);
        const wasThere = await inner.delete(key, options);
        held -= sizes.get(key) ?? 0;
        sizes.delete(key);
        return wasThere;
      },
    };
    const connector = bounded(slow, { maxBytes: 10_000 });
    for (let round = 0; round < 20; round++) {
      const puts = Array.from({ length: 64 }, async (_, i) => {
        const key = `key/${(i * 7 + round) % 90}`;
        await connector.put(key, patternBytes(100 + ((i * 131 + round * 17) % 900), round));
        await connector.get(key);
      });
      await Promise.all(puts);
      expect(connector.stats().bytes).toBeLessThanOrEqual(10_000);
      expect(connector.stats().bytes).toBe(held);
    }
    expect(most).toBeLessThanOrEqual(10_000);
    expect(most).toBeGreaterThan(9000);
    expect(connector.stats().refused).toBe(0);
  });

  it('is no reason to wait for ever where puts that are under way fill it', async () => {
    const { open, opened } = gate();
    far.before = async (verb, key) => (verb === 'put' && key === 'first' ? opened : undefined);
    const connector = store();
    const first = connector.put('first', patternBytes(90));
    const second = connector.put('second', patternBytes(90));
    const third = connector.put('third', patternBytes(90));
    await turns(3);
    expect(connector.stats()).toMatchObject({ bytes: 90, entries: 0 });
    open();
    await Promise.all([first, second, third]);
    expect(await listed(connector, '')).toEqual([{ key: 'third', bytes: 90 }]);
  });

  it('lets two values grow that fill it together, one at the cost of the other', async () => {
    const connector = store();
    await Promise.all([connector.put('a', patternBytes(50)), connector.put('b', patternBytes(50))]);
    await Promise.all([connector.put('a', patternBytes(60)), connector.put('b', patternBytes(60))]);
    expect(await listed(connector, '')).toEqual([{ key: 'b', bytes: 60 }]);
    expect(connector.stats().bytes).toBe(60);
  });

  it('does not make gets wait for a put of their key', async () => {
    const connector = store();
    await connector.put('key', patternBytes(10));
    const { open, opened } = gate();
    far.before = async (verb) => (verb === 'put' ? opened : undefined);
    const put = connector.put('key', patternBytes(20));
    await turns(2);
    expectSameBytes(await connector.get('key'), patternBytes(10));
    open();
    await put;
  });
});

describe('a value that is being replaced', () => {
  it('does not go meanwhile', async () => {
    const connector = store();
    await connector.put('key', patternBytes(50));
    const { open, opened } = gate();
    far.before = async (verb, key) => (verb === 'put' && key === 'key' ? opened : undefined);
    const replacing = connector.put('key', patternBytes(60));
    const other = connector.put('other', patternBytes(60));
    await turns(3);
    expect(far.calls).not.toContain('delete key');
    open();
    await Promise.all([replacing, other]);
    expect(await listed(connector, '')).toEqual([{ key: 'other', bytes: 60 }]);
  });
});

describe('a put that fails', () => {
  it('gives its reservation back where the storage says that it was not stored', async () => {
    const connector = store();
    await connector.put('key', patternBytes(10));
    far.before = async (verb) => {
      if (verb === 'put') throw new KvError('KV_PERMISSION', 'not allowed');
    };
    await expect(connector.put('key', patternBytes(90))).rejects.toMatchObject({ code: 'KV_PERMISSION' });
    await expect(connector.put('another', patternBytes(50))).rejects.toMatchObject({ code: 'KV_PERMISSION' });
    expect(connector.stats()).toMatchObject({ bytes: 10, entries: 1, evictions: 0 });
    expectSameBytes(await connector.get('key'), patternBytes(10));
  });

  it('stays counted where it may have been stored, until a get tells', async () => {
    const connector = store();
    far.after = async (verb) => {
      if (verb === 'put') throw down();
    };
    await expect(connector.put('stored', patternBytes(40))).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    far.after = async () => undefined;
    far.before = async (verb) => {
      if (verb === 'put') throw down();
    };
    await expect(connector.put('not stored', patternBytes(50))).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    expect(connector.stats().bytes).toBe(90);
    expect(await connector.get('not stored')).toBeUndefined();
    expect(connector.stats().bytes).toBe(40);
    expectSameBytes(await connector.get('stored'), patternBytes(40));
    expect(connector.stats().bytes).toBe(40);
  });

  it('and may have been stored goes before what certainly is there', async () => {
    const connector = store();
    await connector.put('old', patternBytes(50));
    far.before = async (verb) => {
      if (verb === 'put') throw down();
    };
    await connector.put('open', patternBytes(50)).catch(() => undefined);
    far.before = async () => undefined;
    await connector.put('new', patternBytes(50));
    expect(await keysOf(connector)).toEqual(['new', 'old']);
  });

  it('and may have been stored goes first of its tenant as well', async () => {
    const connector = store({ quota: { maxBytes: 50, groupOf: (key) => key.slice(0, 1) } });
    await connector.put('a/old', patternBytes(25));
    far.before = async (verb) => {
      if (verb === 'put') throw down();
    };
    for (const key of ['b/open', 'a/open']) await connector.put(key, patternBytes(25)).catch(() => undefined);
    far.before = async () => undefined;
    await connector.put('a/new', patternBytes(25));
    expect(await keysOf(connector)).toEqual(['a/new', 'a/old']);
    expect(connector.stats()).toMatchObject({ bytes: 75, entries: 3 });
  });

  it('by its signal rejects with the reason and counts the larger of both values', async () => {
    const connector = store();
    await connector.put('key', patternBytes(70));
    const controller = new AbortController();
    const reason = new Error('too late');
    far.before = async (verb) => {
      if (verb !== 'put') return;
      controller.abort(reason);
      throw reason;
    };
    await expect(connector.put('key', patternBytes(30), { signal: controller.signal })).rejects.toBe(reason);
    expect(connector.stats().bytes).toBe(70);
    expectSameBytes(await connector.get('key'), patternBytes(70));
  });

  it('while it waits for room leaves the others as they were', async () => {
    const connector = store();
    const { open, opened } = gate();
    far.before = async (verb, key) => (verb === 'put' && key === 'first' ? opened : undefined);
    const first = connector.put('first', patternBytes(90));
    const controller = new AbortController();
    const reason = new Error('too late');
    const second = connector.put('second', patternBytes(90), { signal: controller.signal });
    await turns(2);
    controller.abort(reason);
    await expect(second).rejects.toBe(reason);
    open();
    await first;
    expect(await listed(connector, '')).toEqual([{ key: 'first', bytes: 90 }]);
    await connector.put('third', patternBytes(90));
    expect(connector.stats()).toMatchObject({ bytes: 90, entries: 1 });
  });
});

describe('an eviction that fails', () => {
  it('is followed by that of the next value', async () => {
    const connector = store();
    for (const key of ['a', 'b', 'c', 'd']) await connector.put(key, patternBytes(25));
    far.before = async (verb, key) => {
      if (verb === 'delete' && key === 'a') throw down();
    };
    await connector.put('e', patternBytes(25));
    expect(await keysOf(connector)).toEqual(['a', 'c', 'd', 'e']);
    far.calls.length = 0;
    await connector.put('f', patternBytes(25));
    expect(far.calls).toEqual(['delete c', 'put f']); // the one that failed waits for its turn
    expect(connector.stats()).toMatchObject({ evictions: 2, failedEvictions: 1, bytes: 100 });
  });

  it('of what has expired does not keep the others', async () => {
    const connector = store();
    await connector.put('expired', patternBytes(50), { ttlMs: 10 });
    await connector.put('old', patternBytes(50));
    clock = 10;
    far.before = async (verb, key) => {
      if (verb === 'delete' && key === 'expired') throw down();
    };
    await connector.put('new', patternBytes(50));
    expect(await keysOf(connector)).toEqual(['new']);
    expect(connector.stats()).toMatchObject({ bytes: 100, entries: 2, evictions: 1 });
  });

  it('everywhere refuses the put after a few', async () => {
    const connector = store();
    for (let i = 0; i < 100; i++) await connector.put(`key/${i}`, patternBytes(1));
    far.before = async (verb) => {
      if (verb === 'delete') throw down();
    };
    far.calls.length = 0;
    await expect(connector.put('new', patternBytes(5))).rejects.toMatchObject({ code: 'KV_NO_SPACE', cause: { code: 'KV_CONNECTOR_UNAVAILABLE' } });
    expect(far.calls.length).toBeLessThan(10);
    expect(connector.stats()).toMatchObject({ bytes: 100, entries: 100, refused: 1 });
    far.before = async () => undefined;
    await connector.put('new', patternBytes(5));
    expect(connector.stats()).toMatchObject({ bytes: 100, entries: 96 });
  });
});

describe('a quota', () => {
  const quota = { maxBytes: 50, groupOf: (key: string) => key.split('/', 1)[0] ?? '' };

  it('makes values of its own tenant go, however new they are', async () => {
    const connector = store({ quota });
    await connector.put('alice/1', patternBytes(25));
    await connector.put('bob/1', patternBytes(25));
    for (const key of ['bob/2', 'bob/3', 'bob/4']) await connector.put(key, patternBytes(25));
    expect(await keysOf(connector)).toEqual(['alice/1', 'bob/3', 'bob/4']);
  });

  it('that is kept leaves all tenants to the common bound', async () => {
    const connector = store({ quota });
    for (const key of ['alice/1', 'bob/1', 'carol/1', 'alice/2']) await connector.put(key, patternBytes(25));
    await connector.put('dave/1', patternBytes(25));
    expect(await keysOf(connector)).toEqual(['alice/2', 'bob/1', 'carol/1', 'dave/1']);
  });

  it('that is passed by what was there at the start makes that tenant go first', async () => {
    for (const key of ['alice/1', 'bob/1', 'bob/2', 'bob/3']) await far.inner.put(key, patternBytes(25));
    const connector = store({ quota });
    await connector.put('carol/1', patternBytes(25));
    expect(await keysOf(connector)).toEqual(['alice/1', 'bob/2', 'bob/3', 'carol/1']);
  });

  it('takes only names for tenants', async () => {
    const groupOf = (() => undefined) as unknown as (key: string) => string;
    await expect(store({ quota: { maxBytes: 50, groupOf } }).put('key', patternBytes(10))).rejects.toBeInstanceOf(TypeError);
  });
});

describe('a time to live', () => {
  it('is `ttlMs` for values that bring none, and ends by the own clock', async () => {
    const connector = store({ ttlMs: 1000 });
    await connector.put('default', patternBytes(10));
    await connector.put('short', patternBytes(10), { ttlMs: 500 });
    await connector.put('long', patternBytes(10), { ttlMs: 2000 });
    clock = 999;
    expect(await keysOf(connector)).toEqual(['default', 'long']);
    clock = 1000;
    expect(await connector.get('default')).toBeUndefined();
    expect(await connector.has('long')).toBe(true);
  });

  it('that is over makes a value go before any other, at the next put', async () => {
    const connector = store();
    await connector.put('old', patternBytes(10));
    await connector.put('short', patternBytes(10), { ttlMs: 5 });
    await connector.put('replaced', patternBytes(10), { ttlMs: 5 });
    await connector.put('replaced', patternBytes(10));
    clock = 5;
    await connector.put('new', patternBytes(10));
    expect(await keysOf(far.inner)).toEqual(['new', 'old', 'replaced']);
    expect(connector.stats()).toMatchObject({ bytes: 30, expired: 1, evictions: 0 });
  });

  it('is not forgotten when other values come and go', async () => {
    const connector = store();
    await connector.put('short', patternBytes(10), { ttlMs: 10 });
    for (let i = 0; i < 500; i++) await connector.put('key', patternBytes(10), { ttlMs: 20 });
    clock = 10;
    await connector.put('key', patternBytes(10));
    expect(await keysOf(far.inner)).toEqual(['key']);
  });

  it('that is over for thousands does not make one put pay for all', async () => {
    const connector = store({ maxBytes: 10_000 });
    for (let i = 0; i < 1000; i++) await connector.put(`key/${i}`, patternBytes(1), { ttlMs: 10 });
    clock = 10;
    await connector.put('new', patternBytes(1));
    expect(connector.stats().expired).toBeGreaterThan(0);
    expect(connector.stats().expired).toBeLessThan(100);
    for (let i = 0; i < 100; i++) await connector.put('new', patternBytes(1));
    expect(connector.stats()).toMatchObject({ expired: 1000, entries: 1 });
  });

  it('is told to an inner connector that keeps one', async () => {
    const inner = memory({ now });
    const connector = bounded(inner, { maxBytes: 100, ttlMs: 1000, now });
    await connector.put('key', patternBytes(10));
    clock = 999;
    expect(await inner.has('key')).toBe(true);
    clock = 1000;
    expect(await inner.has('key')).toBe(false);
  });

  it('of values found at the start counts from when they were stored', async () => {
    await far.inner.put('old', patternBytes(10));
    await far.inner.put('new', patternBytes(10));
    await far.inner.put('from the future', patternBytes(10));
    await far.inner.put('unknown', patternBytes(10));
    far.ages.set('old', Date.now() - 70_000).set('new', Date.now() - 10_000).set('from the future', Date.now() + 1e9);
    const connector = store({ ttlMs: 60_000 });
    await connector.sweep();
    expect(await keysOf(connector)).toEqual(['from the future', 'new', 'unknown']);
    clock = 50_000;
    expect(await keysOf(connector)).toEqual(['from the future', 'unknown']);
    clock = 60_000;
    expect(await keysOf(connector)).toEqual([]);
  });
});

describe('what is there at the start', () => {
  beforeEach(async () => {
    for (const key of ['b', 'a', 'd', 'c']) {
      await far.inner.put(key, patternBytes(25));
      far.ages.set(key, key.charCodeAt(0));
    }
  });

  it('counts, the longest stored first to go', async () => {
    const connector = store();
    await connector.put('e', patternBytes(50));
    expect(await keysOf(connector)).toEqual(['c', 'd', 'e']);
    expect(connector.stats()).toMatchObject({ bytes: 100, entries: 3 });
  });

  it('is listed once, and used last where it is read meanwhile', async () => {
    const { open, opened } = gate();
    far.before = async (verb) => (verb === 'list' ? opened : undefined);
    const connector = store();
    expectSameBytes(await connector.get('a'), patternBytes(25)); // does not wait for the list
    const put = connector.put('e', patternBytes(50));
    await turns(2);
    expect(await connector.has('e')).toBe(false); // puts do
    open();
    await put;
    expect(await keysOf(connector)).toEqual(['a', 'd', 'e']);
    expect(far.calls.filter((call) => call.startsWith('list'))).toHaveLength(2); // the other is ours
  });

  it('that cannot be listed rejects puts until it can, and gets never', async () => {
    far.before = async (verb) => {
      if (verb === 'list') throw down();
    };
    const connector = store();
    await expect(connector.put('e', patternBytes(1))).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    far.calls.length = 0;
    for (let i = 0; i < 5; i++) expectSameBytes(await connector.get('a'), patternBytes(25));
    expect(far.calls).not.toContain('list ');
    far.before = async () => undefined;
    await connector.put('e', patternBytes(25));
    expect(await keysOf(connector)).toEqual(['a', 'c', 'd', 'e']);
  });

  it('and is being listed does not hold up a put that is given up, nor close()', async () => {
    const signals: AbortSignal[] = [];
    const connector = bounded(
      {
        ...far.connector,
        async *list(_prefix, { signal } = {}) {
          if (signal) signals.push(signal);
          await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
        },
      },
      { maxBytes: 100 },
    );
    const reason = new Error('too late');
    const controller = new AbortController();
    const put = connector.put('e', patternBytes(1), { signal: controller.signal });
    controller.abort(reason);
    await expect(put).rejects.toBe(reason);
    await connector.close();
    expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
  });

  it('goes by sweep() where it is over a bound that was lowered, and what expired goes too', async () => {
    const connector = store({ maxBytes: 60, quota: { maxBytes: 30, groupOf: (key) => (key < 'c' ? 'low' : 'high') } });
    expect(await connector.sweep()).toEqual({ removed: 2, bytes: 50 });
    expect(await keysOf(far.inner)).toEqual(['b', 'd']);
    expect(connector.stats()).toMatchObject({ bytes: 50, evictions: 2 });
    await connector.put('b', patternBytes(1), { ttlMs: 10 });
    clock = 10;
    expect(await connector.sweep()).toEqual({ removed: 1, bytes: 1 });
    expect(await connector.sweep()).toEqual({ removed: 0, bytes: 0 });
  });

  it('stays, where sweep() cannot delete it', async () => {
    far.before = async (verb) => {
      if (verb === 'delete') throw down();
    };
    const connector = store({ maxBytes: 60 });
    await expect(connector.sweep()).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    expect(connector.stats()).toMatchObject({ bytes: 100, entries: 4 });
  });

  it('is swept by the inner connector as well', async () => {
    const connector = bounded({ ...far.connector, sweep: async () => ({ removed: 3, bytes: 300 }) }, { maxBytes: 75 });
    expect(await connector.sweep()).toEqual({ removed: 4, bytes: 325 });
  });
});

describe('what others do', () => {
  it('is learned by gets: a value that they put', async () => {
    const connector = store();
    await connector.put('own', patternBytes(10));
    await far.inner.put('theirs', patternBytes(30));
    await far.inner.put('partly', patternBytes(40));
    await connector.get('theirs');
    await connector.get('partly', { range: { offset: 10, length: 5 } });
    expect(connector.stats().bytes).toBe(10 + 30 + 15); // of a part, what it reaches to
    await connector.get('partly', { range: { offset: 0, length: 50 } });
    expect(connector.stats().bytes).toBe(10 + 30 + 40);
    await connector.get('partly', { range: { offset: 90, length: 50 } });
    expect(connector.stats()).toMatchObject({ bytes: 80, entries: 3 });
  });

  it('is learned by gets: a value that they replaced or deleted', async () => {
    const connector = store();
    await connector.put('replaced', patternBytes(10));
    await connector.put('deleted', patternBytes(10));
    await far.inner.put('replaced', patternBytes(35));
    await far.inner.delete('deleted');
    expectSameBytes(await connector.get('replaced'), patternBytes(35));
    expect(await connector.get('deleted')).toBeUndefined();
    expect(connector.stats()).toMatchObject({ bytes: 35, entries: 1 });
  });

  it('is not taken for true by a get that a put or delete overtook', async () => {
    const connector = store();
    await connector.put('key', patternBytes(10));
    const { open, opened } = gate();
    far.after = async (verb) => (verb === 'get' ? opened : undefined);
    await far.inner.put('theirs', patternBytes(30));
    const missing = connector.get('late');
    const found = connector.get('key');
    const unknown = connector.get('theirs');
    await turns(2);
    await connector.put('late', patternBytes(40));
    await connector.delete('key');
    await connector.delete('theirs');
    open();
    expect(await missing).toBeUndefined();
    expectSameBytes(await found, patternBytes(10));
    expectSameBytes(await unknown, patternBytes(30));
    expect(connector.stats()).toMatchObject({ bytes: 40, entries: 1 });
  });

  it('is not taken for true by a get that an eviction overtook', async () => {
    const connector = store();
    await connector.put('own', patternBytes(10));
    await far.inner.put('theirs', patternBytes(30));
    const { open, opened } = gate();
    far.after = async (verb) => (verb === 'get' ? opened : undefined);
    const slow = connector.get('theirs');
    await turns(2);
    far.after = async () => undefined;
    await connector.get('theirs');
    await connector.put('new', patternBytes(100));
    open();
    await slow;
    expect(connector.stats()).toMatchObject({ bytes: 100, entries: 1 });
  });

  it('is not taken for true by a get of a part that the list overtook', async () => {
    await far.inner.put('key', patternBytes(80));
    const { open, opened } = gate();
    far.after = async (verb) => (verb === 'get' ? opened : undefined);
    const connector = store();
    const part = connector.get('key', { range: { offset: 0, length: 5 } });
    await connector.sweep();
    open();
    await part;
    expect(connector.stats()).toMatchObject({ bytes: 80, entries: 1 });
  });

  it('is not taken for true by a get during a put', async () => {
    const connector = store();
    const { open, opened } = gate();
    far.after = async (verb) => (verb === 'put' ? opened : undefined);
    const put = connector.put('key', patternBytes(40));
    await turns(2);
    await connector.get('key'); // the far end has it already
    expect(connector.stats()).toMatchObject({ bytes: 40, entries: 0 });
    open();
    await put;
    expect(connector.stats()).toMatchObject({ bytes: 40, entries: 1 });
  });
});

describe('admission on second sight', () => {
  it('remembers the first put of a key and stores the second', async () => {
    const connector = store({ admission: 'second' });
    await connector.get('key'); // a miss is no sight: each put follows one
    await connector.put('key', patternBytes(10, 1));
    expect(await connector.get('key')).toBeUndefined();
    expect(connector.stats()).toMatchObject({ bytes: 0, notAdmitted: 1 });
    await connector.put('key', patternBytes(10, 2));
    expectSameBytes(await connector.get('key'), patternBytes(10, 2));
    await connector.put('key', patternBytes(10, 3)); // what is there is replaced
    expectSameBytes(await connector.get('key'), patternBytes(10, 3));
    expect(connector.stats().notAdmitted).toBe(1);
  });

  it('remembers only so many keys', async () => {
    const connector = store({ admission: 'second' });
    for (let i = 0; i < 65_537; i++) await connector.put(`key/${i}`, patternBytes(1));
    await connector.put('key/65536', patternBytes(1));
    await connector.put('key/0', patternBytes(1));
    expect(await keysOf(connector)).toEqual(['key/65536']);
  });

  it('replaces what was there at the start', async () => {
    await far.inner.put('key', patternBytes(10, 1));
    const connector = store({ admission: 'second' });
    await connector.put('key', patternBytes(10, 2));
    expectSameBytes(await connector.get('key'), patternBytes(10, 2));
  });
});

describe('the queue of what expires', () => {
  it('gives everything that has ended, and only that', () => {
    const expiresAt = fc.integer({ min: 0, max: 30 });
    const step = fc.oneof(
      { weight: 10, arbitrary: fc.record({ expiresAt }) },
      { weight: 2, arbitrary: fc.record({ now: expiresAt }) },
      { weight: 1, arbitrary: fc.record({ kept: fc.integer({ min: 2, max: 4 }) }) },
    );
    const steps = fc.array(step, { minLength: 50, maxLength: 200 });
    fc.assert(
      fc.property(steps, (sequence) => {
        const queue = expiryQueue<{ readonly expiresAt: number }>();
        let model: { readonly expiresAt: number }[] = [];
        for (const step of sequence) {
          if ('expiresAt' in step) {
            queue.add(step);
            model.push(step);
          } else if ('kept' in step) {
            const isWanted = (item: { readonly expiresAt: number }): boolean => item.expiresAt % step.kept > 0;
            queue.keep(isWanted);
            model = model.filter(isWanted);
          } else {
            const taken = new Set<object>();
            for (let item = queue.takeExpired(step.now); item !== undefined; item = queue.takeExpired(step.now)) taken.add(item);
            expect(taken).toEqual(new Set(model.filter((item) => item.expiresAt <= step.now)));
            model = model.filter((item) => item.expiresAt > step.now);
          }
          expect(queue.size).toBe(model.length);
        }
      }),
    );
  });
});

describe('repair', () => {
  it('is that of the inner connector, while nobody else changes the key', async () => {
    expect(store().repair).toBeUndefined();
    const { open, opened } = gate();
    const repaired = { sound: 1, replaced: 0, deleted: 0, failed: 0 };
    const connector = bounded({ ...far.connector, repair: () => opened.then(() => repaired) }, { maxBytes: 100 });
    const repair = connector.repair?.('key', () => true);
    const put = connector.put('key', patternBytes(10));
    await turns(3);
    expect(far.calls).not.toContain('put key');
    open();
    expect(await repair).toEqual(repaired);
    await put;
  });
});

describe('options', () => {
  it.each([
    [{ maxBytes: 0 }, RangeError],
    [{ maxBytes: NaN }, RangeError],
    [{ maxBytes: 10, ttlMs: 0 }, RangeError],
    [{ maxBytes: 10, quota: { maxBytes: -1, groupOf: String } }, RangeError],
    [{ maxBytes: 10, quota: { maxBytes: 1 } }, TypeError],
    [{ maxBytes: 10, quota: { maxBytes: 1, groupOf: String, more: 1 } }, TypeError],
    [{ maxBytes: 10, admission: 'third' }, TypeError],
    [{ maxBytes: 10, maxEntries: 1 }, TypeError],
  ])('%j are refused', (options, mistake) => {
    expect(() => bounded(memory(), options as BoundedOptions)).toThrow(mistake);
  });
});

describe('any sequence of calls', () => {
  const keys = ['a/1', 'a/2', 'a/3', 'b/1', 'b/2', 'c/1'];
  const key = fc.constantFrom(...keys);
  const steps = fc.array(
    fc.oneof(
      { weight: 5, arbitrary: fc.record({ verb: fc.constant('put' as const), key, bytes: fc.integer({ min: 0, max: 70 }), ttlMs: fc.constantFrom(undefined, 10, 30) }) },
      { weight: 4, arbitrary: fc.record({ verb: fc.constantFrom<'get' | 'has' | 'delete' | 'getPart'>('get', 'has', 'delete', 'getPart'), key }) },
      { weight: 1, arbitrary: fc.record({ verb: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 15 }) }) },
      { weight: 1, arbitrary: fc.record({ verb: fc.constant('sweep' as const) }) },
    ),
    { maxLength: 60 },
  );

  interface ModelValue {
    readonly key: string;
    readonly value: Uint8Array;
    readonly expiresAt: number;
  }

  /** The plain truth: an array, the longest unused value first. */
  class Model {
    values: ModelValue[] = [];
    evictions = 0;
    expired = 0;

    constructor(
      readonly maxBytes: number,
      readonly quota: number,
      readonly ttlMs: number,
    ) {}

    find(key: string): ModelValue | undefined {
      return this.values.find((held) => held.key === key && held.expiresAt > clock);
    }

    get(key: string): Uint8Array | undefined {
      const held = this.find(key);
      if (held !== undefined) this.values = [...this.without(key), held];
      return held?.value;
    }

    put(key: string, value: Uint8Array, ttlMs: number | undefined): boolean {
      if (value.byteLength > Math.min(this.maxBytes, this.quota)) return false;
      const old = this.values.find((held) => held.key === key)?.value.byteLength ?? 0;
      const needed = Math.max(old, value.byteLength);
      this.removeExpired(key);
      while (this.bytes(this.without(key), key) + needed > this.quota) this.evict((held) => held.key !== key && group(held.key) === group(key));
      while (this.bytes(this.without(key)) + needed > this.maxBytes) this.evict((held) => held.key !== key);
      this.values = [...this.without(key), { key, value, expiresAt: clock + (ttlMs ?? this.ttlMs) }];
      return true;
    }

    delete(key: string): boolean {
      const wasThere = this.find(key) !== undefined;
      this.values = this.without(key);
      return wasThere;
    }

    removeExpired(except?: string): void {
      const left = this.values.filter((held) => held.key === except || held.expiresAt > clock);
      this.expired += this.values.length - left.length;
      this.values = left;
    }

    evict(mayGo: (held: ModelValue) => boolean): void {
      this.values.splice(this.values.findIndex(mayGo), 1);
      this.evictions++;
    }

    without(key: string): ModelValue[] {
      return this.values.filter((held) => held.key !== key);
    }

    bytes(values: readonly ModelValue[], sameGroupAs?: string): number {
      const counted = values.filter((held) => sameGroupAs === undefined || group(held.key) === group(sameGroupAs));
      return counted.reduce((sum, { value }) => sum + value.byteLength, 0);
    }
  }

  const group = (key: string): string => key.slice(0, 1);

  it('does what a plain model does: bound, quota, order of eviction, time to live', async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.constantFrom(60, 100), fc.constantFrom(50, Infinity), fc.constantFrom(25, Infinity), async (sequence, maxBytes, quota, ttlMs) => {
        clock = 0;
        const { inner, connector: limited } = farEnd();
        const connector = bounded(limited, {
          maxBytes,
          now,
          ...(ttlMs < Infinity && { ttlMs }),
          ...(quota < Infinity && { quota: { maxBytes: quota, groupOf: group } }),
        });
        const model = new Model(maxBytes, quota, ttlMs);
        for (const [seed, step] of sequence.entries()) {
          if (step.verb === 'put') {
            const value = patternBytes(step.bytes, seed);
            const put = connector.put(step.key, value, step.ttlMs === undefined ? {} : { ttlMs: step.ttlMs });
            const isStored = await put.then(
              () => true,
              () => false,
            );
            expect(isStored).toBe(model.put(step.key, value, step.ttlMs));
          } else if (step.verb === 'get') {
            expect(await connector.get(step.key)).toEqual(model.get(step.key));
          } else if (step.verb === 'getPart') {
            expect(await connector.get(step.key, { range: { offset: 1, length: 5 } })).toEqual(model.get(step.key)?.slice(1, 6));
          } else if (step.verb === 'has') {
            expect(await connector.has(step.key)).toBe(model.find(step.key) !== undefined);
          } else if (step.verb === 'delete') {
            expect(await connector.delete(step.key)).toBe(model.delete(step.key));
          } else if (step.verb === 'advance') {
            clock += step.ms;
          } else {
            await connector.sweep();
            model.removeExpired();
          }
          expect(await keysOf(inner)).toEqual(model.values.map((held) => held.key).sort());
          const { bytes, entries, evictions, expired } = connector.stats();
          expect({ bytes, entries, evictions, expired }).toEqual({
            bytes: model.bytes(model.values),
            entries: model.values.length,
            evictions: model.evictions,
            expired: model.expired,
          });
        }
      }),
      { numRuns: 500 },
    );
  });

  it('at once and with failures never passes the bound, gives only what was put, and keeps true books', async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.infiniteStream(fc.integer({ min: 0, max: 9 })), async (sequence, chances) => {
        clock = 0;
        const own = farEnd();
        const chance = (): number => chances.next().value ?? 0;
        own.before = async (verb) => {
          await turns(chance() % 3);
          if (verb !== 'list' && chance() === 0) throw down();
        };
        own.after = async (verb) => {
          if ((verb === 'put' || verb === 'delete') && chance() === 0) throw down();
          await turns(chance() % 2);
        };
        const connector = bounded(own.connector, { maxBytes: 100, now, quota: { maxBytes: 60, groupOf: group } });
        const put = new Map<string, Uint8Array[]>();
        const held = async (): Promise<number> => (await listed(own.inner, '')).reduce((sum, { bytes }) => sum + bytes, 0);
        const failed = (error: unknown): undefined => {
          if (!(error instanceof KvError)) throw error;
          return undefined;
        };
        const calls = sequence.map(async (step, seed) => {
          if (step.verb === 'advance' || step.verb === 'sweep') return;
          await turns(seed >> 3);
          if (step.verb === 'put') {
            const value = patternBytes(step.bytes, seed);
            put.set(step.key, [...(put.get(step.key) ?? []), value]);
            await connector.put(step.key, value).catch(failed);
          } else if (step.verb === 'delete') {
            await connector.delete(step.key).catch(failed);
          } else {
            const value = await connector.get(step.key).catch(failed);
            if (value !== undefined) expect(put.get(step.key)).toContainEqual(value);
          }
          expect(await held()).toBeLessThanOrEqual(100);
        });
        await Promise.all(calls);
        own.before = own.after = async () => undefined;
        // Once all is quiet, the books count at least what is there; when each key was read, exactly that.
        expect(connector.stats().bytes).toBeGreaterThanOrEqual(await held());
        expect(connector.stats().bytes).toBeLessThanOrEqual(100);
        for (const key of keys) await connector.get(key);
        expect(connector.stats().bytes).toBe(await held());
        expect(connector.stats().entries).toBe((await keysOf(own.inner)).length);
      }),
      { numRuns: 300 },
    );
  });
});
