import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { bounded } from '../../connectors/storage/bounded.js';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { memory } from '../../connectors/storage/memory.js';
import { tiered, type TieredConnector, type TieredOptions } from '../../connectors/storage/tiered.js';
import { KvError } from '../../lib/errors.js';
import type { CallOptions, StorageConnector } from '../../lib/store/connector.js';
import { expectSameBytes, listed, patternBytes, storageConnectorContract } from '../contract/storage-connector.js';
import { gate, hang } from './pending.js';

const GIB = 2 ** 30;

let clock = 0;
const now = (): number => clock;
const advanceClock = (ms: number): void => void (clock += ms);

let top: ReturnType<typeof farEnd>;
let middle: ReturnType<typeof farEnd>;
let bottom: ReturnType<typeof farEnd>;

let path = '';
const freshPath = (): string => (path = mkdtempSync(join(tmpdir(), 'kvreel-tiered-')));
const dispose = (): void => rmSync(path, { recursive: true, force: true });

storageConnectorContract('tiered memory', { make: () => tiered([memory({ now }), memory({ now })], { now }), advanceClock });
storageConnectorContract('tiered with a top that never has anything', {
  make() {
    bottom = farEnd('bottom');
    return tiered([farEnd('blind', 'blind').connector, bottom.connector], { timeoutMs: 50, now });
  },
  advanceClock,
  stall() {
    bottom.before = (_verb, _key, options) => hang(options);
    return () => mend(bottom);
  },
});
storageConnectorContract('tiered with a top that fails to get and put', { make: () => tiered([farEnd('broken', 'broken').connector, memory({ now })], { now }), advanceClock });
storageConnectorContract('tiered bounded memory over bounded filesystem', {
  make: () => tiered([bounded(memory({ now }), { maxBytes: GIB, now }), bounded(filesystem({ path: freshPath() }), { maxBytes: GIB, now })], { now }),
  advanceClock,
  dispose,
});

type Verb = 'get' | 'put' | 'has' | 'delete' | 'list';
type Mood = 'well' | 'blind' | 'broken';

const down = (): KvError => new KvError('KV_CONNECTOR_UNAVAILABLE', 'nobody answers');
const corrupt = (): KvError => new KvError('KV_CORRUPT_OBJECT', 'the copy is damaged');

/** A memory connector that counts its calls and into which a test may step. `blind`: forgets each put. `broken`: can only list and delete. */
function farEnd(name: string, mood: Mood = 'well') {
  const inner = memory({ now });
  const far = {
    /** Runs before each call; what it throws, the call rejects with. */
    before: async (verb: Verb, _key: string, _options: CallOptions): Promise<void> => {
      if (mood === 'broken' && verb !== 'delete' && verb !== 'list') throw down();
    },
    /** Runs after each call that had its effect. */
    after: async (_verb: Verb, _key: string): Promise<void> => undefined,
    calls: [] as string[],
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
    name,
    get: (key, options) => pass('get', key, options, () => inner.get(key, options)),
    put: (key, value, options) => pass('put', key, options, () => (mood === 'blind' ? Promise.resolve() : inner.put(key, value, options))),
    has: (key, options) => pass('has', key, options, () => inner.has(key, options)),
    delete: (key, options) => pass('delete', key, options, () => inner.delete(key, options)),
    async *list(prefix, options) {
      await pass('list', prefix, options, async () => undefined);
      yield* inner.list(prefix, options);
    },
  };
  return far;
}

/** Lets what was started in the background end: with memory tiers it needs a few turns of the event loop. */
async function settled(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise(setImmediate);
}

let failures: string[] = [];
let connector: TieredConnector;

const stack = (options: TieredOptions = {}): TieredConnector =>
  tiered([top.connector, middle.connector, bottom.connector], {
    onFailure: (tier, error) => void failures.push(`${tier} ${(error as KvError).code}`),
    now,
    ...options,
  });

beforeEach(() => {
  clock = 0;
  failures = [];
  [top, middle, bottom] = [farEnd('top'), farEnd('middle'), farEnd('bottom')];
  connector = stack();
});

afterEach(() => connector.close());

const fail = (far: ReturnType<typeof farEnd>, verb: Verb, error: () => Error): void =>
  void (far.before = async (called) => {
    if (called === verb) throw error();
  });
const mend = (far: ReturnType<typeof farEnd>): void => void (far.before = async () => undefined);

describe('get', () => {
  it('asks only the first tier that has the key', async () => {
    await connector.put('key', patternBytes(10));
    expectSameBytes(await connector.get('key'), patternBytes(10));
    expect([top, middle, bottom].map(({ calls }) => calls.filter((call) => call === 'get key').length)).toEqual([1, 0, 0]);
  });

  it('copies a value up into the tiers that lack it, after it has given it', async () => {
    await bottom.inner.put('key', patternBytes(10));
    const { open, opened } = gate();
    top.before = async (verb) => (verb === 'put' ? opened : undefined);
    const value = await connector.get('key');
    expectSameBytes(value, patternBytes(10));
    value?.fill(0); // the caller's own
    open();
    await settled();
    expectSameBytes(await top.inner.get('key'), patternBytes(10));
    expectSameBytes(await middle.inner.get('key'), patternBytes(10));
    expect(failures).toEqual([]);
  });

  it('copies a value up once for many readers', async () => {
    await bottom.inner.put('key', patternBytes(10));
    await Promise.all(Array.from({ length: 20 }, () => connector.get('key')));
    await settled();
    expect(top.calls.filter((call) => call === 'put key')).toHaveLength(1);
  });

  it('of a range copies up only what is known to be the whole value', async () => {
    await bottom.inner.put('key', patternBytes(10));
    for (const range of [{ offset: 0, length: 10 }, { offset: 1, length: 100 }, { offset: 20, length: 5 }]) await connector.get('key', { range });
    await settled();
    expect(await top.inner.has('key')).toBe(false);
    expectSameBytes(await connector.get('key', { range: { offset: 0, length: 11 }, into: new Uint8Array(11) }), patternBytes(10));
    await settled();
    expectSameBytes(await top.inner.get('key'), patternBytes(10));
  });

  it('copies up no more than `promotionBytes` at once', async () => {
    connector = stack({ promotionBytes: 25 });
    for (const key of ['a', 'b', 'c']) await bottom.inner.put(key, patternBytes(10));
    const { open, opened } = gate();
    top.before = async (verb) => (verb === 'put' ? opened : undefined);
    for (const key of ['a', 'b', 'c']) await connector.get(key);
    open();
    await settled();
    expect((await listed(top.inner, '')).map(({ key }) => key)).toEqual(['a', 'b']);
    await connector.get('c');
    await settled();
    expect(await top.inner.has('c')).toBe(true);
  });

  it('copies nothing up with `promotionBytes` = 0', async () => {
    connector = stack({ promotionBytes: 0 });
    await bottom.inner.put('key', patternBytes(1));
    await connector.get('key');
    await settled();
    expect(await top.inner.has('key')).toBe(false);
  });

  it('does not copy a value up that was replaced or deleted since it was read', async () => {
    for (const key of ['replaced', 'deleted']) await bottom.inner.put(key, patternBytes(10, 1));
    const { open, opened } = gate();
    bottom.after = async (verb) => (verb === 'get' ? opened : undefined);
    const reads = [connector.get('replaced'), connector.get('deleted')];
    await settled();
    await connector.put('replaced', patternBytes(10, 2));
    await connector.delete('deleted');
    await top.inner.delete('replaced');
    open();
    for (const read of reads) expectSameBytes(await read, patternBytes(10, 1));
    await settled();
    expect(await top.inner.has('replaced')).toBe(false);
    expectSameBytes(await connector.get('replaced'), patternBytes(10, 2));
    expect(await connector.get('deleted')).toBeUndefined();
  });

  it('that reads the old value while a put is under way does not copy it over the new one', async () => {
    await bottom.inner.put('key', patternBytes(10, 1));
    const { open, opened } = gate();
    bottom.before = async (verb) => (verb === 'put' ? opened : undefined);
    top.before = async (verb) => (verb === 'put' ? opened : undefined);
    const put = connector.put('key', patternBytes(10, 2));
    await settled();
    await middle.inner.delete('key');
    expectSameBytes(await connector.get('key'), patternBytes(10, 1));
    open();
    await put;
    await settled();
    for (const { inner } of [top, bottom]) expectSameBytes(await inner.get('key'), patternBytes(10, 2));
  });

  it('passes over a tier that fails, and does not write to it', async () => {
    await connector.put('key', patternBytes(10));
    for (const verb of ['get', 'has'] as const) {
      fail(top, verb, down);
      top.calls.length = 0;
      failures = [];
      expectSameBytes(await connector.get('key'), patternBytes(10));
      expect(await connector.has('key')).toBe(true);
      await settled();
      expect(top.calls).toEqual(['get key', 'has key']);
      expect(failures).toEqual(['top KV_CONNECTOR_UNAVAILABLE']);
    }
  });

  it('passes over a tier that stalls after `timeoutMs`, long before the deadline', async () => {
    connector = stack({ timeoutMs: 20 });
    await connector.put('key', patternBytes(10));
    top.before = (_verb, _key, options) => hang(options);
    const signal = AbortSignal.timeout(5000);
    expectSameBytes(await connector.get('key', { signal }), patternBytes(10));
    expect(await connector.has('key', { signal })).toBe(true);
    expect(signal.aborted).toBe(false);
    expect(failures).toEqual(['top KV_CONNECTOR_TIMEOUT', 'top KV_CONNECTOR_TIMEOUT']);
  });

  it('passes over a tier that stalls and does not even heed its signal', async () => {
    connector = stack({ timeoutMs: 20 });
    await connector.put('key', patternBytes(10));
    top.before = () => new Promise(() => undefined);
    expectSameBytes(await connector.get('key'), patternBytes(10));
    mend(top);
  });

  it('gives the last tier all the time there is', async () => {
    connector = stack({ timeoutMs: 1 });
    await bottom.inner.put('key', patternBytes(10));
    bottom.before = () => new Promise((resolve) => setTimeout(resolve, 60)); // longer than the limit and the grace after it
    expectSameBytes(await connector.get('key'), patternBytes(10));
  });

  it('is a miss where a tier fails and the others do not have the key', async () => {
    fail(bottom, 'get', down);
    expect(await connector.get('key')).toBeUndefined();
    fail(bottom, 'has', down);
    expect(await connector.has('key')).toBe(false);
    expect(failures).toHaveLength(2);
  });

  it('rejects with the first failure where every tier fails', async () => {
    for (const verb of ['get', 'has'] as const) {
      fail(top, verb, () => new KvError('KV_PERMISSION', 'no'));
      fail(middle, verb, down);
      fail(bottom, verb, down);
      await expect(connector[verb]('key')).rejects.toMatchObject({ code: 'KV_PERMISSION' });
    }
  });

  it("tells a caller's own abort and mistake from a failure", async () => {
    await connector.put('key', patternBytes(10));
    const controller = new AbortController();
    const reason = new Error('too late');
    top.before = (verb, _key, options) => {
      setImmediate(() => controller.abort(reason));
      return verb === 'get' ? hang(options) : Promise.resolve();
    };
    await expect(connector.get('key', { signal: controller.signal })).rejects.toBe(reason);
    mend(top);
    await expect(connector.get('key', { into: new Uint8Array(9) })).rejects.toBeInstanceOf(RangeError);
    expect(failures).toEqual([]);
  });

  it.each([1000, 300_000])("never lets a tier that was given up write into the caller's memory (%i bytes)", async (bytes) => {
    connector = stack({ timeoutMs: 20 });
    await connector.put('key', patternBytes(bytes, 1));
    let lateMemory: Uint8Array | undefined;
    const stuck: StorageConnector = {
      ...top.connector,
      get: (_key, { into } = {}) => {
        lateMemory = into;
        return new Promise(() => undefined);
      },
    };
    const other = tiered([stuck, bottom.connector], { timeoutMs: 20 });
    const into = new Uint8Array(bytes + 5);
    const value = await other.get('key', { into });
    expect(lateMemory).toBeDefined();
    lateMemory?.fill(0xff);
    expectSameBytes(value, patternBytes(bytes, 1));
    expect(value?.buffer).toBe(into.buffer);
  });
});

describe("the caller's memory", () => {
  it('is not written to by a tier that answers after the caller has given up', async () => {
    const { open, opened } = gate();
    await connector.put('key', patternBytes(10));
    top.after = async (verb) => (verb === 'get' ? opened : undefined);
    const controller = new AbortController();
    const into = new Uint8Array(10);
    const read = connector.get('key', { into, signal: controller.signal });
    await settled();
    controller.abort(new Error('too late'));
    await expect(read).rejects.toThrow('too late');
    open();
    await settled();
    expectSameBytes(into, new Uint8Array(10));
  });
});

describe('a damaged copy', () => {
  it('is replaced by a sound one from below', async () => {
    await connector.put('key', patternBytes(10));
    fail(top, 'get', corrupt);
    fail(middle, 'get', corrupt);
    expectSameBytes(await connector.get('key'), patternBytes(10));
    await settled();
    for (const { calls } of [top, middle]) expect(calls.slice(-2)).toEqual(['get key', 'put key']);
    mend(top);
    expectSameBytes(await connector.get('key'), patternBytes(10));
    expect(failures).toEqual(['top KV_CORRUPT_OBJECT', 'middle KV_CORRUPT_OBJECT']);
  });

  it('is deleted where only a part of a sound one was read', async () => {
    await connector.put('key', patternBytes(10));
    fail(top, 'get', corrupt);
    expectSameBytes(await connector.get('key', { range: { offset: 1, length: 2 } }), patternBytes(10).slice(1, 3));
    await settled();
    expect(await top.inner.has('key')).toBe(false);
    mend(top);
    await connector.get('key');
    await settled();
    expect(await top.inner.has('key')).toBe(true);
  });

  it('on a disk is found, passed over and replaced', async () => {
    const disk = filesystem({ path: freshPath() });
    connector = tiered([disk, bottom.connector]);
    await connector.put('key', patternBytes(1000));
    const files = readdirSync(path, { recursive: true, encoding: 'utf8' }).map((name) => join(path, name));
    for (const file of files.filter((name) => statSync(name).isFile())) truncateSync(file, 500);
    await expect(disk.get('key')).rejects.toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
    expectSameBytes(await connector.get('key'), patternBytes(1000));
    await vi.waitFor(async () => expectSameBytes(await disk.get('key'), patternBytes(1000)), { interval: 5 });
    await connector.close();
    dispose();
  });

  it('that is all there is makes a miss, or where no tier answers the failure', async () => {
    fail(top, 'get', corrupt);
    expect(await connector.get('key')).toBeUndefined();
    expect(top.calls).toEqual(['get key']); // not deleted: nobody asked for that
    fail(middle, 'get', corrupt);
    fail(bottom, 'get', corrupt);
    await expect(connector.get('key')).rejects.toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
  });
});

describe('put', () => {
  it('stores in every tier', async () => {
    await connector.put('key', patternBytes(10));
    for (const { inner } of [top, middle, bottom]) expectSameBytes(await inner.get('key'), patternBytes(10));
  });

  it('resolves where at least one tier took the value, and deletes what the others had', async () => {
    await connector.put('key', patternBytes(10, 1));
    fail(top, 'put', () => new KvError('KV_NO_SPACE', 'full'));
    fail(bottom, 'put', down);
    await connector.put('key', patternBytes(10, 2));
    expect(await top.inner.has('key')).toBe(false);
    expect(await bottom.inner.has('key')).toBe(false);
    expectSameBytes(await connector.get('key'), patternBytes(10, 2));
    expect(top.calls).toContain('get key'); // nothing old is there any more, so it is asked again
    expect(failures.sort()).toEqual(['bottom KV_CONNECTOR_UNAVAILABLE', 'top KV_NO_SPACE']);
  });

  it('rejects with the first failure where no tier took the value, and leaves the old one', async () => {
    await connector.put('key', patternBytes(10, 1));
    fail(top, 'put', () => new KvError('KV_NO_SPACE', 'full'));
    fail(middle, 'put', down);
    fail(bottom, 'put', down);
    await expect(connector.put('key', patternBytes(10, 2))).rejects.toMatchObject({ code: 'KV_NO_SPACE' });
    expectSameBytes(await connector.get('key'), patternBytes(10, 1));
  });

  it('makes a tier that keeps an older value go unread until it is mended', async () => {
    await connector.put('key', patternBytes(10, 1));
    top.before = async (verb) => {
      if (verb === 'put' || verb === 'delete') throw down();
    };
    await connector.put('key', patternBytes(10, 2));
    expectSameBytes(await top.inner.get('key'), patternBytes(10, 1)); // neither put nor deleted
    expectSameBytes(await connector.get('key'), patternBytes(10, 2));
    expect(await listed(connector, '')).toEqual([{ key: 'key', bytes: 10 }]);
    await settled();
    mend(top);
    await connector.get('key'); // copies it up
    await settled();
    expectSameBytes(await top.inner.get('key'), patternBytes(10, 2));
    middle.calls.length = 0;
    expectSameBytes(await connector.get('key'), patternBytes(10, 2));
    expect(middle.calls).toEqual([]);
  });

  it('makes a last tier that keeps an older value go unread as well', async () => {
    await connector.put('key', patternBytes(10, 1));
    bottom.before = async (verb) => {
      if (verb !== 'get') throw down();
    };
    await connector.put('key', patternBytes(10, 2));
    for (const { inner } of [top, middle]) await inner.delete('key'); // evicted
    mend(bottom);
    expect(await connector.get('key')).toBeUndefined();
    expect(await connector.has('key')).toBe(false);
    expect(await listed(connector, '')).toEqual([]);
    await connector.put('key', patternBytes(10, 3));
    for (const { inner } of [top, middle]) await inner.delete('key');
    expectSameBytes(await connector.get('key'), patternBytes(10, 3));
  });

  it('is not held up by an upper tier that stalls, beyond its time and that of the clean-up', async () => {
    connector = stack({ timeoutMs: 20 });
    top.before = (_verb, _key, options) => hang(options);
    await connector.put('key', patternBytes(10));
    expect(failures).toEqual(['top KV_CONNECTOR_TIMEOUT', 'top KV_CONNECTOR_TIMEOUT']);
    expectSameBytes(await bottom.inner.get('key'), patternBytes(10));
  });

  it.each(['top', 'bottom'] as const)('that is aborted on its way to the %s rejects with the reason; no tier gives an older value than another', async (slow) => {
    await connector.put('key', patternBytes(10, 1));
    const controller = new AbortController();
    const reason = new Error('too late');
    const far = slow === 'top' ? top : bottom;
    far.before = (verb, _key, options) => {
      if (verb !== 'put') return Promise.resolve();
      setImmediate(() => controller.abort(reason));
      return hang(options);
    };
    await expect(connector.put('key', patternBytes(10, 2), { signal: controller.signal })).rejects.toBe(reason);
    await settled();
    expect(await top.inner.has('key')).toBe(false);
    expect(await middle.inner.has('key')).toBe(slow === 'top');
    expectSameBytes(await connector.get('key'), patternBytes(10, slow === 'top' ? 2 : 1));
    expectSameBytes(await bottom.inner.get('key'), patternBytes(10, slow === 'top' ? 2 : 1));
    expect(failures).toEqual([]);
  });
});

describe('delete', () => {
  it('deletes in every tier', async () => {
    await bottom.inner.put('key', patternBytes(10));
    expect(await connector.delete('key')).toBe(true);
    expect(await connector.delete('key')).toBe(false);
  });

  it('rejects where a tier failed, and is a miss nevertheless', async () => {
    await connector.put('key', patternBytes(10));
    fail(bottom, 'delete', down);
    await expect(connector.delete('key')).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    expect(await connector.get('key')).toBeUndefined();
    expect(await connector.has('key')).toBe(false);
    expect(await listed(connector, '')).toEqual([]);
    mend(bottom);
    expect(await connector.delete('key')).toBe(true);
    await bottom.inner.put('key', patternBytes(20)); // say, by another process
    expectSameBytes(await connector.get('key'), patternBytes(20));
  });
});

describe('list', () => {
  it('gives each key once, as the fastest tier that has it says', async () => {
    await connector.put('everywhere', patternBytes(10));
    await bottom.inner.put('below', patternBytes(20));
    await top.inner.put('above', patternBytes(30));
    expect(await listed(connector, '')).toEqual([
      { key: 'above', bytes: 30 },
      { key: 'below', bytes: 20 },
      { key: 'everywhere', bytes: 10 },
    ]);
  });

  it('gives what the other tiers have and then rejects where one fails', async () => {
    await connector.put('key', patternBytes(10));
    fail(middle, 'list', down);
    const keys: string[] = [];
    const read = async (): Promise<void> => {
      for await (const { key } of connector.list('')) keys.push(key);
    };
    await bottom.inner.put('below', patternBytes(10));
    await expect(read()).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    expect(keys).toEqual(['key', 'below']);
    expect(failures).toEqual(['middle KV_CONNECTOR_UNAVAILABLE']);
  });
});

describe('a time to live', () => {
  it('goes up with the value', async () => {
    await connector.put('key', patternBytes(10), { ttlMs: 1000 });
    await top.inner.delete('key');
    clock = 400;
    await connector.get('key');
    await settled();
    clock = 999;
    expect(await top.inner.has('key')).toBe(true);
    clock = 1000;
    expect(await top.inner.has('key')).toBe(false);
  });

  it('that ends before the value goes up keeps it down', async () => {
    await connector.put('key', patternBytes(10), { ttlMs: 1000 });
    for (const { inner } of [top, middle]) await inner.delete('key');
    bottom.after = async (verb) => {
      if (verb === 'get') clock = 1000;
    };
    top.calls.length = 0;
    await connector.get('key');
    await settled();
    expect(top.calls).toEqual(['get key']);
  });

  it('of the last put is the one that holds', async () => {
    const slow = memory({ now: () => 0 });
    const stack = tiered([slow], { now });
    await stack.put('key', patternBytes(10), { ttlMs: 10 });
    await stack.put('key', patternBytes(10), { ttlMs: 1000 });
    clock = 20;
    await stack.put('another', patternBytes(10), { ttlMs: 10 });
    expect(await stack.has('key')).toBe(true);
    clock = 1000;
    expect(await stack.has('key')).toBe(false);
  });

  it('ends for the whole stack, whatever the clock of a tier says', async () => {
    const slow = memory({ now: () => 0 });
    const stack = tiered([slow, memory({ now })], { now });
    await stack.put('key', patternBytes(10), { ttlMs: 10 });
    clock = 10;
    expect(await stack.get('key')).toBeUndefined();
    expect(await stack.has('key')).toBe(false);
    expect(await listed(stack, '')).toEqual([]);
    expect(await stack.delete('key')).toBe(false);
    await stack.put('key', patternBytes(20));
    expectSameBytes(await stack.get('key'), patternBytes(20));
  });

  it('and ranges are supported where every tier does', () => {
    const without = { ...memory(), supports: { range: false, ttl: false } };
    expect(tiered([memory(), memory()]).supports).toEqual({ range: true, ttl: true });
    expect(tiered([memory(), without]).supports).toEqual({ range: false, ttl: false });
  });
});

describe('repair', () => {
  const isSound = (value: Uint8Array): boolean => Buffer.compare(value, patternBytes(10)) === 0;

  it('replaces copies that are not sound by the slowest sound one', async () => {
    await top.inner.put('key', patternBytes(11));
    await middle.inner.put('key', patternBytes(10));
    fail(bottom, 'get', corrupt);
    await bottom.inner.put('key', patternBytes(12));
    expect(await connector.repair('key', isSound)).toEqual({ sound: 1, replaced: 2, deleted: 0, failed: 0 });
    mend(bottom);
    expect(await connector.repair('key', isSound)).toEqual({ sound: 3, replaced: 0, deleted: 0, failed: 0 });
  });

  it('deletes what is not sound where no copy is', async () => {
    await top.inner.put('key', patternBytes(11));
    await bottom.inner.put('key', patternBytes(12));
    expect(await connector.repair('key', isSound)).toEqual({ sound: 0, replaced: 0, deleted: 2, failed: 0 });
    expect(await listed(connector, '')).toEqual([]);
  });

  it('leaves a tier alone that cannot be read, and tells where it could not write', async () => {
    await top.inner.put('key', patternBytes(11));
    await middle.inner.put('key', patternBytes(10));
    fail(bottom, 'get', down);
    fail(top, 'put', down);
    expect(await connector.repair('key', isSound)).toEqual({ sound: 1, replaced: 0, deleted: 0, failed: 2 });
    expect(bottom.calls).toEqual(['get key']);
  });

  it('does not make a copy outlive the others', async () => {
    await connector.put('key', patternBytes(10), { ttlMs: 1000 });
    await top.inner.put('key', patternBytes(11));
    clock = 400;
    await connector.repair('key', isSound);
    clock = 1000;
    expect(await top.inner.has('key')).toBe(false);
  });

  it('mends a tier that had an older value', async () => {
    await connector.put('key', patternBytes(10, 1));
    top.before = async (verb) => {
      if (verb === 'put' || verb === 'delete') throw down();
    };
    await connector.put('key', patternBytes(10, 2));
    mend(top);
    expect(await connector.repair('key')).toEqual({ sound: 2, replaced: 1, deleted: 0, failed: 0 });
    middle.calls.length = 0;
    expectSameBytes(await connector.get('key'), patternBytes(10, 2));
    expect(middle.calls).toEqual([]);
  });

  it('takes what tiers give without an error as sound', async () => {
    await connector.put('key', patternBytes(10));
    fail(top, 'get', corrupt);
    expect(await connector.repair('key')).toEqual({ sound: 2, replaced: 1, deleted: 0, failed: 0 });
  });

  it('does not meet a put of its key', async () => {
    await connector.put('key', patternBytes(11));
    const { open, opened } = gate();
    const repair = connector.repair('key', async (value) => {
      await opened;
      return isSound(value);
    });
    const put = connector.put('key', patternBytes(10));
    await settled();
    open();
    expect(await repair).toEqual({ sound: 0, replaced: 0, deleted: 3, failed: 0 });
    await put;
    expectSameBytes(await connector.get('key'), patternBytes(10));
  });
});

describe('the stack', () => {
  it('shows its tiers', () => {
    expect(connector.tiers).toEqual([top.connector, middle.connector, bottom.connector]);
  });

  it('sweeps every tier that can be swept', async () => {
    expect(connector.sweep).toBeUndefined();
    const swept = (removed: number): StorageConnector => ({ ...memory(), sweep: async () => ({ removed, bytes: 10 * removed }) });
    expect(await tiered([swept(1), memory(), swept(2)]).sweep?.()).toEqual({ removed: 3, bytes: 30 });
    let isLastSwept = false;
    const broken = { ...memory(), sweep: () => Promise.reject(down()) };
    const last = { ...memory(), sweep: async () => ((isLastSwept = true), { removed: 0, bytes: 0 }) };
    await expect(tiered([broken, last]).sweep?.()).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    expect(isLastSwept).toBe(true);
  });

  it('cancels what it copies up when it is closed', async () => {
    await bottom.inner.put('key', patternBytes(10));
    let signal: AbortSignal | undefined;
    top.before = (verb, _key, options) => {
      if (verb !== 'put') return Promise.resolve();
      signal = options.signal;
      return hang(options);
    };
    await connector.get('key');
    await settled();
    expect(signal?.aborted).toBe(false);
    await connector.close();
    expect(signal?.reason).toMatchObject({ code: 'KV_CLOSED' });
    expect(failures).toEqual([]);
  });

  it.each([
    [[], {}, TypeError],
    [[memory()], { timeoutMs: 0 }, RangeError],
    [[memory()], { promotionBytes: -1 }, RangeError],
    [[memory()], { promotionBytes: NaN }, RangeError],
    [[memory()], { promote: true }, TypeError],
  ])('refuses the tiers %j with %j', (tiers, options, mistake) => {
    expect(() => tiered(tiers, options as TieredOptions)).toThrow(mistake);
  });

  it('refuses the same connector twice', () => {
    const one = memory();
    expect(() => tiered([one, one])).toThrow(TypeError);
  });
});

describe('any sequence of calls with failures', () => {
  const keys = ['a', 'b'];
  const fault = fc.constantFrom('none', 'none', 'none', 'before', 'after', 'corrupt');
  const steps = fc.array(
    fc.record({
      verb: fc.constantFrom('put', 'put', 'put and abort', 'get', 'get', 'get', 'getPart', 'has', 'delete', 'evict', 'list', 'repair'),
      key: fc.constantFrom(...keys),
      faults: fc.tuple(fault, fault, fault),
      bytes: fc.integer({ min: 1, max: 20 }),
      tier: fc.integer({ min: 0, max: 2 }),
    }),
    { minLength: 20, maxLength: 40 },
  );

  it('never gives a wrong or an older value, and hits where nothing failed', async () => {
    let hits = 0;
    await fc.assert(
      fc.asyncProperty(steps, async (sequence) => {
        const ends = [farEnd('top'), farEnd('middle'), farEnd('bottom')];
        const stack = tiered(ends.map(({ connector }) => connector));
        /** Of each key the values that a get may give, and whether it must give one where no tier fails. */
        const model = new Map(keys.map((key) => [key, { allowed: [] as Uint8Array[], isSure: false }]));
        for (const [seed, { verb, key, faults, bytes, tier }] of sequence.entries()) {
          const known = model.get(key);
          if (known === undefined) throw new Error('a key without a model');
          ends.forEach((far, i) => {
            const fault = faults[i];
            far.before = async (called) => {
              if (fault === 'before') throw down();
              if (fault === 'corrupt' && called === 'get') throw corrupt();
            };
            far.after = async () => {
              if (fault === 'after') throw down();
            };
          });
          const isClean = faults.every((one) => one === 'none');
          const outcome = async <T>(call: Promise<T>): Promise<{ result: T } | undefined> =>
            call.then(
              (result) => ({ result }),
              (error: unknown) => {
                if (!(error instanceof KvError)) throw error;
                return undefined;
              },
            );
          if (verb === 'put and abort') {
            const value = patternBytes(bytes, seed);
            const controller = new AbortController();
            const aborting = ends[tier];
            if (aborting === undefined) throw new Error('a tier that is not there');
            aborting.before = async (called) => {
              if (called !== 'put') return;
              controller.abort(new KvError('KV_CANCELLED', 'the caller gave up'));
              throw controller.signal.reason;
            };
            expect(await outcome(stack.put(key, value, { signal: controller.signal }))).toBeUndefined();
            known.allowed = [...known.allowed, value];
            known.isSure = false;
          } else if (verb === 'put') {
            const value = patternBytes(bytes, seed);
            const put = await outcome(stack.put(key, value));
            const isTaken = faults.some((one) => one === 'none' || one === 'corrupt');
            expect(put !== undefined).toBe(isTaken);
            known.allowed = put ? [value] : [...known.allowed, value];
            known.isSure = put !== undefined && isClean;
          } else if (verb === 'delete') {
            const gone = await outcome(stack.delete(key));
            known.isSure = false;
            if (gone !== undefined) known.allowed = [];
          } else if (verb === 'evict') {
            await ends[tier]?.inner.delete(key);
            known.isSure = false;
          } else if (verb === 'list') {
            await outcome(listed(stack, ''));
          } else if (verb === 'repair') {
            await outcome(stack.repair(key));
          } else if (verb === 'has') {
            const has = await outcome(stack.has(key));
            if (known.isSure && isClean) expect(has).toEqual({ result: true });
            if (known.allowed.length === 0) expect(has?.result ?? false).toBe(false);
          } else {
            const isPart = verb === 'getPart';
            const got = await outcome(stack.get(key, isPart ? { range: { offset: 1, length: 5 } } : {}));
            const allowed = isPart ? known.allowed.map((value) => value.slice(1, 6)) : known.allowed;
            if (got?.result !== undefined) {
              hits++;
              expect(allowed).toContainEqual(got.result);
            } else {
              expect(known.isSure && isClean).toBe(false);
            }
            // A get rejects only where no tier answers.
            if (got === undefined) expect(faults.some((one) => one !== 'none')).toBe(true);
          }
          await settled();
        }
        await stack.close();
      }),
      { numRuns: 200 },
    );
    expect(hits).toBeGreaterThan(200);
  });

  it('made at once leaves no older value below a newer one', async () => {
    const calls = fc.array(fc.record({ verb: fc.constantFrom('put', 'get', 'get', 'delete', 'evict'), tier: fc.integer({ min: 0, max: 2 }) }), { minLength: 10, maxLength: 40 });
    let agreed = 0;
    await fc.assert(
      fc.asyncProperty(calls, fc.infiniteStream(fc.integer({ min: 0, max: 9 })), async (sequence, chances) => {
        const ends = [farEnd('top'), farEnd('middle'), farEnd('bottom')];
        const stack = tiered(ends.map(({ connector }) => connector));
        const chance = (): number => chances.next().value ?? 0;
        const turns = async (count: number): Promise<void> => {
          for (let i = 0; i < count; i++) await new Promise(setImmediate);
        };
        for (const far of ends) {
          // A call that fails has no effect: else a put that was rejected might be in one tier and not in another, and both be right.
          far.before = async () => {
            await turns(chance() % 4);
            if (chance() === 0) throw down();
          };
          far.after = () => turns(chance() % 3);
        }
        const put: Uint8Array[] = [];
        await Promise.allSettled(
          sequence.map(async ({ verb, tier }, seed) => {
            await turns(seed >> 1);
            if (verb === 'put') {
              put.push(patternBytes(10, seed));
              await stack.put('key', patternBytes(10, seed));
            } else if (verb === 'get') {
              await stack.get('key');
            } else if (verb === 'delete') {
              await stack.delete('key');
            } else {
              await ends[tier]?.inner.delete('key');
            }
          }),
        );
        await turns(20);
        for (const far of ends) far.before = far.after = async () => undefined;
        // Each tier loses it in turn; what is found below must be the same value.
        const found: Uint8Array[] = [];
        for (const far of ends) {
          const value = await stack.get('key', { range: { offset: 0, length: 10 } }); // of a part, so that nothing goes up
          if (value !== undefined) found.push(value);
          await far.inner.delete('key');
        }
        for (const value of found) {
          expect(put).toContainEqual(value);
          expect(value).toEqual(found[0]);
        }
        if (found.length > 1) agreed++;
      }),
      { numRuns: 200 },
    );
    expect(agreed).toBeGreaterThan(20);
  });
});
