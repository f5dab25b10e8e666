// What disks, systems and other processes do to a store. The numbers are those of the fault list that all connectors share.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { KvStore } from '../../lib/index.js';
import { expectSameBytes, listed, patternBytes } from '../contract/storage-connector.js';
import { SMALL, tensorOf } from '../lib/store/tensors.js';
import { canMount, canTrace, entryFile, inChild, inject, MIB, path, signalAtLook, startChild, tempFiles, useChildren, useFreshPaths } from './filesystem-store.js';

useFreshPaths();
useChildren();

/** A small disk at `path`, mounted anew. */
function mountSmallDisk(): void {
  fs.mkdirSync(path);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=700', 'tmpfs', path]);
  const place = path;
  onTestFinished(() => void execFileSync('umount', [place]));
}

describe.skipIf(!canMount)('fault 31: no space on the disk (needs root that may mount)', () => {
  it('fails a put with KV_NO_SPACE, keeps the old value and leaves no file', async () => {
    mountSmallDisk();
    const connector = filesystem({ path });
    await connector.put('key', patternBytes(MIB));
    await expect(connector.put('key', patternBytes(3 * MIB))).rejects.toMatchObject({ code: 'KV_NO_SPACE', retryable: false });
    expectSameBytes(await connector.get('key'), patternBytes(MIB));
    expect(tempFiles()).toEqual([]);
    await connector.delete('key');
    await connector.put('key', patternBytes(MIB + 1));
  });
});

describe.skipIf(!canMount)('fault 32: a disk mounted read-only (needs root that may mount)', () => {
  it('fails puts and deletes with KV_PERMISSION, and gets go on', async () => {
    mountSmallDisk();
    await filesystem({ path }).put('key', patternBytes(MIB));
    await filesystem({ path }).put('short', patternBytes(10), { ttlMs: 1 });
    execFileSync('mount', ['-o', 'remount,ro', path]);
    const connector = filesystem({ path });
    const readOnly = { code: 'KV_PERMISSION', message: expect.stringContaining('read-only') };
    await expect(connector.put('key', patternBytes(1))).rejects.toMatchObject(readOnly);
    await expect(connector.delete('key')).rejects.toMatchObject(readOnly);
    expectSameBytes(await connector.get('key'), patternBytes(MIB));
    expect(await connector.get('short')).toBeUndefined();
    expect(await listed(connector, '')).toEqual([{ key: 'key', bytes: MIB }]);
  });
});

describe.skipIf(!canTrace)('fault 33: an error of the system (needs strace that may trace)', () => {
  it.each([
    ['pwrite64', 'EIO', 'KV_CONNECTOR_UNAVAILABLE', 'check the disk'],
    ['pwrite64', 'ENOSPC', 'KV_NO_SPACE', 'delete values'],
    ['pwrite64', 'EDQUOT', 'KV_NO_SPACE', 'quota'],
    ['pwrite64', 'EFBIG', 'KV_CONNECTOR_REFUSED', 'ulimit -f'],
    ['fdatasync', 'EIO', 'KV_CONNECTOR_UNAVAILABLE', 'check the disk'],
    ['rename', 'ENOSPC', 'KV_NO_SPACE', 'delete values'],
    ['rename', 'EACCES', 'KV_PERMISSION', 'permission'],
    ['rename', 'EPERM', 'KV_PERMISSION', 'permission'],
  ])('%s: %s fails a put with %s, keeps the old value and leaves no file', { timeout: 20_000 }, async (call, error, code, advice) => {
    const connector = filesystem({ path });
    await connector.put('key', patternBytes(1000));
    const put = { verb: 'put', key: 'key', bytes: 5000, fill: 7, durable: true } as const;
    const outcome = inChild(put, inject(`${call}:error=${error}`));
    expect(outcome).toMatchObject({ code, message: expect.stringContaining(advice) });
    expect(outcome?.message).toContain(`(${error})`);
    expectSameBytes(await connector.get('key'), patternBytes(1000));
    expect(tempFiles()).toEqual([]);
  });

  // The first read is that of the last bytes, the second that of the value.
  it.each([
    ['get', 1],
    ['get', 2],
    ['has', 1],
    ['list', 1],
  ] as const)('EIO fails a %s with KV_CONNECTOR_UNAVAILABLE at read %i', { timeout: 20_000 }, async (verb, when) => {
    await filesystem({ path }).put('key', patternBytes(1000));
    const outcome = inChild({ verb, key: 'key' }, inject(`pread64:error=EIO:when=${when}`, entryFile('key')));
    expect(outcome).toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE', message: expect.stringContaining('(EIO)') });
  });
});

describe.skipIf(!canTrace)('a disk that hangs (needs strace that may trace)', () => {
  it.each([
    ['get', 'pread64'],
    ['get', 'openat'],
    ['has', 'pread64'],
    ['delete', 'unlink'],
    ['list', 'pread64'],
  ] as const)('holds up no %s beyond its time in %s', { timeout: 20_000 }, async (verb, call) => {
    await filesystem({ path }).put('key', patternBytes(1000));
    const hang = inject(`${call}:delay_enter=1500000`, entryFile('key'));
    const { abortedAfterMs = NaN } = inChild({ verb, key: 'key', abortAfterMs: 300 }, hang) ?? {};
    expect(abortedAfterMs).toBeGreaterThan(290);
    expect(abortedAfterMs).toBeLessThan(450);
  });

  it('holds up no put beyond its time, and what was still written is not published', { timeout: 20_000 }, async () => {
    const connector = filesystem({ path });
    await connector.put('key', patternBytes(1000));
    const put = { verb: 'put', key: 'key', bytes: 1000, fill: 7, abortAfterMs: 300 } as const;
    const { abortedAfterMs } = inChild(put, inject('pwrite64:delay_enter=1500000:when=1')) ?? {};
    expect(abortedAfterMs).toBeLessThan(450);
    expectSameBytes(await connector.get('key'), patternBytes(1000));
    await filesystem({ path }).put('another', patternBytes(1));
    expect(tempFiles()).toEqual([]);
  });
});

describe('fault 34: no free descriptor', () => {
  it('fails a get with KV_CONNECTOR_UNAVAILABLE', async () => {
    await filesystem({ path }).put('key', patternBytes(1000));
    const limited = ['sh', '-c', 'ulimit -n 64; exec "$@"', 'sh'];
    const outcome = inChild({ verb: 'get-without-descriptors', key: 'key' }, limited);
    expect(outcome).toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE', message: expect.stringContaining('ulimit -n') });
  });
});

describe('fault 35: short reads and writes', () => {
  /** Makes each read and write of any FileHandle move at most 1000 bytes, as the system is free to do. */
  async function shorten(): Promise<{ calls: number }> {
    const handle = await open('/dev/null');
    const prototype = Object.getPrototypeOf(handle) as FileHandle;
    await handle.close();
    const count = { calls: 0 };
    for (const verb of ['read', 'write'] as const) {
      const original = prototype[verb] as (...args: unknown[]) => unknown;
      const short = function (this: FileHandle, bytes: Uint8Array, offset: number, length: number, position: number) {
        count.calls++;
        return original.call(this, bytes, offset, Math.min(length, 1000), position);
      };
      vi.spyOn(prototype, verb).mockImplementation(short as never);
    }
    return count;
  }

  afterEach(() => vi.restoreAllMocks());

  it('are continued', async () => {
    const count = await shorten();
    const connector = filesystem({ path });
    await connector.put('key', patternBytes(10_001));
    expectSameBytes(await connector.get('key'), patternBytes(10_001));
    expectSameBytes(await connector.get('key', { range: { offset: 4000, length: 3000 } }), patternBytes(10_001).slice(4000, 7000));
    expect(count.calls).toBe(11 + 1 + (1 + 11) + (1 + 3));
  });

  it.skipIf(!canTrace)('end in KV_CORRUPT_OBJECT where the file seems to end (needs strace that may trace)', { timeout: 20_000 }, async () => {
    await filesystem({ path }).put('key', patternBytes(1000));
    const outcome = inChild({ verb: 'get', key: 'key' }, inject('pread64:retval=0:when=2', entryFile('key')));
    expect(outcome).toMatchObject({ code: 'KV_CORRUPT_OBJECT', message: expect.stringContaining('cut short') });
  });
});

describe.skipIf(!canTrace)('fault 36: SIGKILL in a put (needs strace that may trace)', () => {
  const steps = ['mkdir', 'pwrite64', 'fdatasync', 'rename', 'fsync'];
  const put = { verb: 'put', key: 'key', bytes: 20 * MIB, fill: 7, durable: true } as const;
  const whole = new Uint8Array(20 * MIB).fill(7);

  /** Puts in a child that is killed at its first, second, ... such call until one gets through; says how many were killed. */
  async function killAtEach(call: string, before: () => Promise<void>, after: () => Promise<void>): Promise<number> {
    for (let n = 1; ; n++) {
      await before();
      const outcome = inChild(put, inject(`${call}:signal=KILL:when=${n}`));
      if (outcome !== undefined) return n - 1;
      await after();
      await filesystem({ path }).put('next', patternBytes(10));
      expect(tempFiles()).toEqual([]);
    }
  }

  // A first put makes path, temp and a fan-out directory. The value goes out in two writes, then the trailer. The first rename
  // finds no fan-out directory. It waits for the directory above path, then for the fan-out directory, then for path.
  it.each([
    ['mkdir', 3],
    ['pwrite64', 3],
    ['fdatasync', 1],
    ['rename', 2],
    ['fsync', 3],
  ])('at each %s of a first put leaves no value or the whole one, and its temp file is swept', { timeout: 60_000 }, async (call, times) => {
    const killed = await killAtEach(
      call,
      async () => fs.rmSync(path, { recursive: true, force: true }),
      async () => {
        const value = await filesystem({ path }).get('key');
        if (value !== undefined) expectSameBytes(value, whole);
      },
    );
    expect(killed).toBe(times);
    expectSameBytes(await filesystem({ path }).get('key'), whole);
  });

  it.each(steps.slice(1))('at each %s of a later put leaves the old value or the new one, whole', { timeout: 60_000 }, async (call) => {
    const old = patternBytes(1000);
    const killed = await killAtEach(
      call,
      () => filesystem({ path }).put('key', old),
      async () => {
        const value = await filesystem({ path }).get('key');
        expectSameBytes(value, value?.byteLength === old.byteLength ? old : whole);
      },
    );
    expect(killed).toBeGreaterThan(0);
  });
});

describe('faults 37 and 39: an entry that is damaged or no file', () => {
  const corrupt = { code: 'KV_CORRUPT_OBJECT', retryable: false };
  let connector = filesystem({ path: '/nowhere' });

  beforeEach(async () => {
    connector = filesystem({ path });
    await connector.put('key', patternBytes(10_000));
  });

  async function expectCorruptUntilPutAgain(): Promise<void> {
    await expect(connector.get('key')).rejects.toMatchObject(corrupt);
    await expect(connector.get('key', { range: { offset: 0, length: 1 } })).rejects.toMatchObject(corrupt);
    const into = new Uint8Array(10_000).fill(0xa5);
    await expect(connector.get('key', { into })).rejects.toMatchObject(corrupt);
    expect(into.every((byte) => byte === 0xa5)).toBe(true);
    expect(await listed(connector, '')).toEqual([]);
    await connector.put('key', patternBytes(500));
    expectSameBytes(await connector.get('key'), patternBytes(500));
  }

  it.each([0, 1, 527, 528, 529, 9_999, 10_000, 10_527])('fault 37: cut to %i bytes is found', async (size) => {
    fs.truncateSync(entryFile('key'), size);
    await expectCorruptUntilPutAgain();
  });

  it.each([
    ['from the start', 0],
    ['from its last kilobyte on', 9_504],
    ['in its trailer', 10_000],
    ['in its length', 10_512],
  ])('fault 37: filled with zeros %s is found', async (_, from) => {
    const file = fs.readFileSync(entryFile('key'));
    fs.writeFileSync(entryFile('key'), file.fill(0, from));
    await expectCorruptUntilPutAgain();
  });

  it.each([
    ['a byte', () => Buffer.from('x')],
    ['its own trailer', () => fs.readFileSync(entryFile('key')).subarray(10_000)],
  ])('fault 37: with %s appended is found', async (_, tail) => {
    fs.appendFileSync(entryFile('key'), tail());
    await expectCorruptUntilPutAgain();
  });

  it('fault 37: with another magic is found', async () => {
    const file = fs.readFileSync(entryFile('key'));
    fs.writeFileSync(entryFile('key'), file.fill('2', 10_527));
    await expectCorruptUntilPutAgain();
  });

  it('fault 37: that is the entry of another key is found', async () => {
    await connector.put('other', patternBytes(10_000, 1));
    fs.renameSync(entryFile('other'), entryFile('key'));
    await expectCorruptUntilPutAgain();
  });

  it('fault 39: that is a symbolic link is not followed, and a put replaces the link and not what it leads to', async () => {
    const target = join(path, 'target');
    fs.renameSync(entryFile('key'), target);
    const before = fs.readFileSync(target);
    fs.symlinkSync(target, entryFile('key'));
    expect(await connector.has('key')).toBe(false);
    await expectCorruptUntilPutAgain();
    expectSameBytes(fs.readFileSync(target), before);
  });

  it('fault 39: that is a FIFO is found without waiting for a writer', async () => {
    fs.rmSync(entryFile('key'));
    execFileSync('mkfifo', [entryFile('key')]);
    expect(await connector.has('key')).toBe(false);
    await expectCorruptUntilPutAgain();
  });

  it('fault 39: that is a directory is found by every verb, and left alone', async () => {
    fs.rmSync(entryFile('key'));
    fs.mkdirSync(entryFile('key'));
    expect(await connector.has('key')).toBe(false);
    await expect(connector.get('key')).rejects.toMatchObject({ ...corrupt, message: expect.stringContaining('no regular file') });
    await expect(connector.put('key', patternBytes(1))).rejects.toMatchObject(corrupt);
    await expect(connector.delete('key')).rejects.toMatchObject(corrupt);
    expect(fs.statSync(entryFile('key')).isDirectory()).toBe(true);
    expect(tempFiles()).toEqual([]);
  });

  it('fault 37: that is too short for a trailer is called so', async () => {
    fs.truncateSync(entryFile('key'), 527);
    await expect(connector.get('key')).rejects.toThrow('too short');
  });

  it('does not hide the others from list', async () => {
    await connector.put('whole', patternBytes(7));
    fs.truncateSync(entryFile('key'), 0);
    expect(await listed(connector, '')).toEqual([{ key: 'whole', bytes: 7 }]);
  });

  it('can be deleted', async () => {
    fs.truncateSync(entryFile('key'), 0);
    expect(await connector.delete('key')).toBe(true);
    expect(await connector.get('key')).toBeUndefined();
  });

  it('fault 37: with zeros that only the checksums of the object show is a miss to a KvStore', async () => {
    const { order, dtype, layers, kvHeads, headDim } = SMALL;
    const seen: unknown[] = [];
    const onCorrupt = (error: Error): void => void seen.push('code' in error && error.code);
    const store = new KvStore({ connector, namespace: { model: 'm', geometry: { order, dtype, layers, kvHeads, headDim } }, coder: 'raw', onCorrupt });
    const tensor = tensorOf(SMALL);
    await store.put('a1', tensor);
    expectSameBytes((await store.fetch('a1'))?.data, tensor.data);
    const keys = (await listed(connector, '')).map(({ key }) => key).filter((key) => key !== 'key');
    const file = fs.readFileSync(entryFile(keys[0] ?? ''));
    fs.writeFileSync(entryFile(keys[0] ?? ''), file.fill(0, file.byteLength - 2000, file.byteLength - 1000));
    expect(await store.fetch('a1')).toBeUndefined();
    expect(seen).toEqual(['KV_CORRUPT_OBJECT']);
  });
});

describe('fault 38: an entry that changes while it is open', () => {
  const value = patternBytes(40 * MIB);

  // The 4th look comes after the first 16 MiB were read.
  it.each([
    ['deleted', () => fs.rmSync(entryFile('key'))],
    ['replaced', () => fs.cpSync(entryFile('other'), `${entryFile('key')}.new`)],
  ])('%s: the get that has it open gives the old value whole', async (_, change) => {
    const connector = filesystem({ path });
    await connector.put('key', value);
    await connector.put('other', patternBytes(100));
    const signal = signalAtLook(4, () => {
      change();
      if (fs.existsSync(`${entryFile('key')}.new`)) fs.renameSync(`${entryFile('key')}.new`, entryFile('key'));
    });
    expectSameBytes(await connector.get('key', { signal }), value);
  });

  it('cut short: the get rejects with KV_CORRUPT_OBJECT', async () => {
    const connector = filesystem({ path });
    await connector.put('key', value);
    const signal = signalAtLook(4, () => fs.truncateSync(entryFile('key'), 20 * MIB));
    await expect(connector.get('key', { signal })).rejects.toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
  });
});

describe('fault 40: two processes that write one key', () => {
  it('leave one whole value at every moment', { timeout: 30_000 }, async () => {
    const connector = filesystem({ path });
    await connector.put('key', new Uint8Array(MIB).fill(1));
    const writers = [1, 2].map((fill) => {
      return once(startChild({ verb: 'put', key: 'key', bytes: fill * MIB, fill, times: 100 }), 'exit');
    });
    let isWriting = true;
    const done = Promise.all(writers).finally(() => (isWriting = false));
    const seen = new Set<number>();
    while (isWriting) {
      const value = await connector.get('key');
      const fill = value?.[0] ?? 0;
      expectSameBytes(value, new Uint8Array(fill * MIB).fill(fill));
      seen.add(fill);
    }
    expect(await done).toEqual([
      [0, null],
      [0, null],
    ]);
    expect([...seen].sort()).toEqual([1, 2]);
    expect(tempFiles()).toEqual([]);
  });
});

describe('fault 41: a clock that jumps', () => {
  const HOUR = 3_600_000;
  let connector = filesystem({ path: '/nowhere' });

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date', 'hrtime'] });
    connector = filesystem({ path });
  });
  afterEach(() => void vi.useRealTimers());

  /** Only the wall clock; the monotonic one goes on. */
  function setClock(byMs: number): void {
    vi.setSystemTime(Date.now() + byMs);
  }

  /** Makes the entry one of an earlier start of this machine, or of another machine. */
  function fromAnotherStart(key: string, change: (lifetime: Buffer) => void = () => undefined): void {
    const file = fs.readFileSync(entryFile(key));
    const lifetime = file.subarray(file.byteLength - 560, file.byteLength - 528);
    lifetime.fill(0xee, 24);
    change(lifetime);
    fs.writeFileSync(entryFile(key), file);
  }

  it('back does not prolong the time of a value', async () => {
    await connector.put('key', patternBytes(10), { ttlMs: HOUR });
    setClock(-24 * HOUR);
    expectSameBytes(await connector.get('key'), patternBytes(10));
    vi.advanceTimersByTime(HOUR - 1);
    expect(await connector.has('key')).toBe(true);
    vi.advanceTimersByTime(1);
    expect(await connector.get('key')).toBeUndefined();
  });

  it('forward makes a miss, and what is put then lives its time', async () => {
    await connector.put('key', patternBytes(10), { ttlMs: HOUR });
    setClock(24 * HOUR);
    expect(await connector.get('key')).toBeUndefined();
    await connector.put('key', patternBytes(10), { ttlMs: HOUR });
    vi.advanceTimersByTime(HOUR - 1);
    expect(await connector.has('key')).toBe(true);
    setClock(-25 * HOUR);
    expect(await connector.has('key')).toBe(true);
    vi.advanceTimersByTime(1);
    expect(await connector.has('key')).toBe(false);
  });

  it('either way leaves values alone that have no time to live', async () => {
    await connector.put('key', patternBytes(10));
    for (const byMs of [-1e12, 2e12]) {
      setClock(byMs);
      expect(await listed(connector, '')).toEqual([{ key: 'key', bytes: 10 }]);
      expect(await connector.sweep?.()).toEqual({ removed: 0, bytes: 0 });
    }
  });

  it('between two starts of the machine prolongs the time of a value by no more than itself', async () => {
    await connector.put('key', patternBytes(10), { ttlMs: HOUR });
    await connector.put('far', patternBytes(10), { ttlMs: HOUR });
    for (const key of ['key', 'far']) fromAnotherStart(key);
    setClock(-HOUR);
    expect(await connector.get('far')).toBeUndefined(); // from a future further off than its time is long
    vi.advanceTimersByTime(1);
    expect(await connector.has('key')).toBe(true);
    vi.advanceTimersByTime(2 * HOUR - 2);
    expect(await connector.has('key')).toBe(true);
    vi.advanceTimersByTime(1);
    expect(await connector.has('key')).toBe(false);
  });

  it('does not matter where the machine has started anew and its monotonic clock with it', async () => {
    await connector.put('key', patternBytes(10), { ttlMs: HOUR });
    fromAnotherStart('key', (lifetime) => lifetime.writeDoubleLE(1e15, 16));
    vi.advanceTimersByTime(HOUR - 1);
    expect(await connector.has('key')).toBe(true);
    vi.advanceTimersByTime(1);
    expect(await connector.has('key')).toBe(false);
  });

  it.each([
    ['NaN', NaN],
    ['negative', -1],
    ['zero', 0],
  ])('a damaged time to live, %s, makes a miss', async (_, ttlMs) => {
    await connector.put('key', patternBytes(10), { ttlMs: HOUR });
    fromAnotherStart('key', (lifetime) => lifetime.writeDoubleLE(ttlMs, 0));
    expect(await connector.get('key')).toBeUndefined();
  });
});
