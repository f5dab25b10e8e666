import { execFileSync, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { filesystem } from '../../connectors/storage/filesystem.js';
import type { StorageConnector, SweepResult } from '../../lib/store/connector.js';
import { expectSameBytes, listed, patternBytes, storageConnectorContract } from '../contract/storage-connector.js';
import { canChangeUser, canTrace, entryFile, freshPath, inChild, inject, isRoot, MIB, path, signalAtLook, tempFiles, useChildren, useFreshPaths, usePath } from './filesystem-store.js';

useFreshPaths();
useChildren();

for (const durable of [false, true]) {
  storageConnectorContract(durable ? 'durable filesystem' : 'filesystem', {
    make() {
      vi.useFakeTimers({ toFake: ['Date', 'hrtime'] });
      return filesystem({ path: freshPath(), durable });
    },
    dispose: () => void vi.useRealTimers(),
    advanceClock: (ms) => void vi.advanceTimersByTime(ms),
  });
}

describe('the files of a store', () => {
  it('are the value, then the key in 512 bytes, the length and "kvreel.1", under the SHA-256 of the key', async () => {
    await filesystem({ path }).put('model/key', patternBytes(1000));
    const file = fs.readFileSync(entryFile('model/key'));
    expect(file.byteLength).toBe(1528);
    expectSameBytes(file.subarray(0, 1000), patternBytes(1000));
    expect(file.toString('latin1', 1000, 1512)).toBe('model/key'.padEnd(512, '\0'));
    expect(file.readBigUInt64LE(1512)).toBe(1000n);
    expect(file.toString('latin1', 1520)).toBe('kvreel.1');
  });

  it('that have a time to live hold that and two clocks before the key, and end in "kvreel.2"', async () => {
    const [wallMs, monotonicMs] = [Date.now(), Number(process.hrtime.bigint()) / 1e6];
    await filesystem({ path }).put('model/key', patternBytes(1000), { ttlMs: 5000.5 });
    const file = fs.readFileSync(entryFile('model/key'));
    expect(file.byteLength).toBe(1560);
    expectSameBytes(file.subarray(0, 1000), patternBytes(1000));
    expect(file.readDoubleLE(1000)).toBe(5000.5);
    expect(Math.abs(file.readDoubleLE(1008) - wallMs)).toBeLessThan(1000);
    expect(Math.abs(file.readDoubleLE(1016) - monotonicMs)).toBeLessThan(1000);
    expect(file.toString('latin1', 1032, 1544)).toBe('model/key'.padEnd(512, '\0'));
    expect(file.readBigUInt64LE(1544)).toBe(1000n);
    expect(file.toString('latin1', 1552)).toBe('kvreel.2');
  });

  it('never lie outside it, and their names never hold the key', async () => {
    const connector = filesystem({ path });
    const keys = ['../../escape', '/absolute', 'secret', 'temp', '..'];
    for (const key of keys) await connector.put(key, patternBytes(10));
    const names = fs.readdirSync(path, { recursive: true, encoding: 'utf8' });
    const files = names.filter((name) => fs.statSync(join(path, name)).isFile());
    expect(files.sort()).toEqual(keys.map((key) => relative(path, entryFile(key))).sort());
  });

  it('can be read and written by their owner only', async () => {
    await filesystem({ path }).put('key', patternBytes(10));
    const modeOf = (file: string) => (fs.statSync(file).mode & 0o777).toString(8);
    const directories = [path, join(path, 'temp'), dirname(entryFile('key'))];
    expect(directories.map(modeOf)).toEqual(['700', '700', '700']);
    expect(modeOf(entryFile('key'))).toBe('600');
  });

  it('are not made by reading', async () => {
    const connector = filesystem({ path });
    await connector.get('key');
    await connector.has('key');
    await connector.delete('key');
    expect(await listed(connector, '')).toEqual([]);
    expect(fs.existsSync(path)).toBe(false);
  });

  it('are written two at a time, so that puts leave threads to gets', async () => {
    const connector = filesystem({ path });
    await connector.put('key', patternBytes(1000));
    let running = 16;
    const puts = Array.from({ length: running }, (_, i) => connector.put(`large/${i}`, patternBytes(8 * MIB)).finally(() => running--));
    const atOnce: number[] = [];
    while (running > 0) {
      expectSameBytes(await connector.get('key'), patternBytes(1000));
      atOnce.push(tempFiles().length);
    }
    await Promise.all(puts);
    expect(Math.max(...atOnce)).toBe(2);
  });

  it('are found again by another connector', async () => {
    await filesystem({ path }).put('key', patternBytes(1000));
    expectSameBytes(await filesystem({ path }).get('key'), patternBytes(1000));
  });

  it('may be removed under a running connector: at most one put fails, in a way that may be tried again', async () => {
    const connector = filesystem({ path });
    await connector.put('key', patternBytes(10));
    fs.rmSync(path, { recursive: true });
    expect(await connector.get('key')).toBeUndefined();
    await expect(connector.put('key', patternBytes(10))).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE', retryable: true });
    await connector.put('key', patternBytes(20));
    expectSameBytes(await connector.get('key'), patternBytes(20));
  });
});

describe('options', () => {
  it.each([
    [{}, 'expected `path` to name a directory, got undefined'],
    [{ path: '' }, 'expected `path` to name a directory, got ""'],
    [{ path: 'a\0b' }, 'expected `path` to name a directory, got "a\\u0000b"'],
    [{ path: 'a', durable: 1 }, 'expected `durable` to be true or false, got number'],
    [{ path: 'a', sync: true }, 'expected only the options path, durable, got `sync`'],
  ])('%j is refused', (options, message) => {
    expect(() => filesystem(options as { path: string })).toThrow(new TypeError(message));
  });

  it('a path that is a file, or leads through one, is refused by the put', async () => {
    fs.writeFileSync(path, '');
    for (const place of [path, join(path, 'store')]) {
      await expect(filesystem({ path: place }).put('key', patternBytes(1))).rejects.toMatchObject({ code: 'KV_CONNECTOR_REFUSED' });
    }
  });
});

describe('between two steps of a call', () => {
  const reason = new Error('enough');
  const value = patternBytes(40 * MIB);

  it('an abort of a put keeps the old value and leaves no file, at each step', async () => {
    const connector = filesystem({ path, durable: true });
    await connector.put('key', patternBytes(100));
    let aborted = 0;
    for (let n = 1; ; n++) {
      const signal = signalAtLook(n, (controller) => controller.abort(reason));
      const cause = await connector.put('key', value, { signal }).catch((cause: unknown) => cause);
      if (cause === undefined) break;
      aborted++;
      expect(cause).toBe(reason);
      expectSameBytes(await connector.get('key'), patternBytes(100));
      expect(tempFiles()).toEqual([]);
    }
    // Before it starts, before and after its wait for a turn, before each of 3 writes, before the trailer, the wait for the disk and the
    // rename.
    expect(aborted).toBe(9);
    expectSameBytes(await connector.get('key'), value);
  });

  it('an abort of a get rejects with its reason, at each step', async () => {
    const connector = filesystem({ path });
    await connector.put('key', value);
    let aborted = 0;
    for (let n = 1; ; n++) {
      const signal = signalAtLook(n, (controller) => controller.abort(reason));
      const outcome: unknown = await connector.get('key', { signal }).catch((cause: unknown) => cause);
      if (outcome !== reason) break;
      aborted++;
    }
    // Before it starts, before the trailer, before each of 3 reads and after the last.
    expect(aborted).toBe(6);
  });

  it('the temp file may be removed: the put can be tried again', async () => {
    const connector = filesystem({ path });
    const signal = signalAtLook(5, () => tempFiles().forEach((name) => fs.rmSync(join(path, 'temp', name))));
    await expect(connector.put('key', value, { signal })).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    expect(await connector.has('key')).toBe(false);
    await connector.put('key', patternBytes(10));
  });
});

describe('whole and range gets', () => {
  afterEach(() => vi.restoreAllMocks());

  it('into the memory of the caller take none of Node\'s own reads, each of which is a trip to a thread', async () => {
    const connector = filesystem({ path });
    await connector.put('key', patternBytes(MIB));
    const handle = await open('/dev/null');
    const read = vi.spyOn(Object.getPrototypeOf(handle) as FileHandle, 'read');
    await handle.close();
    const into = new Uint8Array(MIB);
    for (const [offset, length] of [[0, MIB], [5000, 100_000]] as const) {
      expectSameBytes(await connector.get('key', { range: { offset, length }, into }), patternBytes(MIB).slice(offset, offset + length));
    }
    expect(read).not.toHaveBeenCalled();
    expectSameBytes(await connector.get('key'), patternBytes(MIB));
    expect(read).toHaveBeenCalled();
    read.mockRestore();
  });
});

describe('list', () => {
  it('tells when a value was put, by the clock of the disk', async () => {
    const connector = filesystem({ path });
    const before = Date.now();
    await connector.put('key', patternBytes(10));
    await connector.put('short', patternBytes(20), { ttlMs: 60_000 });
    for await (const { key, bytes, storedAtMs = 0 } of connector.list('')) {
      expect(bytes).toBe(key === 'key' ? 10 : 20);
      expect(storedAtMs).toBeGreaterThan(before - 1000);
      expect(storedAtMs).toBeLessThan(Date.now() + 1000);
    }
  });
});

describe('a value whose time is over', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['Date', 'hrtime'] }));
  afterEach(() => void vi.useRealTimers());

  it.each([
    ['get', (connector: StorageConnector) => connector.get('key'), undefined],
    ['has', (connector: StorageConnector) => connector.has('key'), false],
    ['delete', (connector: StorageConnector) => connector.delete('key'), false],
    ['list', (connector: StorageConnector) => listed(connector, ''), []],
    ['sweep', (connector: StorageConnector) => connector.sweep?.(), { removed: 1, bytes: 1560 }],
  ])('is removed when %s meets it', async (_, meet, answer) => {
    const connector = filesystem({ path });
    await connector.put('key', patternBytes(1000), { ttlMs: 50 });
    vi.advanceTimersByTime(49);
    expectSameBytes(await connector.get('key'), patternBytes(1000));
    vi.advanceTimersByTime(1);
    expect(await meet(connector)).toEqual(answer);
    expect(fs.existsSync(entryFile('key'))).toBe(false);
  });

  it('does not take along the value that has replaced it meanwhile', async () => {
    const connector = filesystem({ path });
    await connector.put('other', patternBytes(20));
    await connector.put('key', patternBytes(1000), { ttlMs: 50 });
    vi.advanceTimersByTime(50);
    // The second look comes when the old file is open and before its last bytes are read.
    const signal = signalAtLook(2, () => fs.renameSync(entryFile('other'), entryFile('key')));
    expect(await connector.get('key', { signal })).toBeUndefined();
    expect(fs.existsSync(entryFile('key'))).toBe(true);
  });

  it('is over in another process too', () => {
    expect(inChild({ verb: 'put', key: 'key', bytes: 10, fill: 1, ttlMs: 100_000 })).toEqual({});
    expect(inChild({ verb: 'get', key: 'key' })).toEqual({ bytes: 10, fill: 1 });
    expect(inChild({ verb: 'put', key: 'key', bytes: 10, fill: 1, ttlMs: 1 })).toEqual({});
    expect(inChild({ verb: 'get', key: 'key' })).toEqual({});
  });
});

describe('sweep', () => {
  it('of a store that is not there removes nothing and makes nothing', async () => {
    expect(await filesystem({ path }).sweep?.()).toEqual({ removed: 0, bytes: 0 });
    expect(fs.existsSync(path)).toBe(false);
  });

  it('removes what nobody can get, and nothing else', async () => {
    const connector = filesystem({ path });
    for (const key of ['good', 'cut', 'moved', 'link', 'fifo', 'directory']) await connector.put(key, patternBytes(1000));
    fs.truncateSync(entryFile('cut'), 700);
    fs.mkdirSync(dirname(entryFile('elsewhere')), { recursive: true });
    fs.renameSync(entryFile('moved'), entryFile('elsewhere'));
    const target = join(path, 'target');
    fs.renameSync(entryFile('link'), target);
    fs.symlinkSync(target, entryFile('link'));
    for (const key of ['fifo', 'directory']) fs.rmSync(entryFile(key));
    execFileSync('mkfifo', [entryFile('fifo')]);
    fs.mkdirSync(entryFile('directory'));
    fs.writeFileSync(join(dirname(entryFile('good')), 'notes'), 'mine');
    fs.writeFileSync(join(path, 'temp', `${'0'.repeat(16)}-1-${randomUUID()}.tmp`), 'of another host, young');

    const { removed } = (await connector.sweep?.()) ?? {};
    expect(removed).toBe(4);
    expect(fs.readFileSync(target).byteLength).toBe(1528);
    expect(fs.statSync(entryFile('directory')).isDirectory()).toBe(true);
    expect(fs.existsSync(join(dirname(entryFile('good')), 'notes'))).toBe(true);
    expect(tempFiles()).toHaveLength(1);
    expect(await listed(connector, '')).toEqual([{ key: 'good', bytes: 1000 }]);
    expect(await connector.sweep?.()).toEqual({ removed: 0, bytes: 0 });
  });

  it('leaves a put alone that runs', async () => {
    const connector = filesystem({ path });
    await connector.put('old', patternBytes(10));
    let swept: Promise<SweepResult> | undefined;
    const signal = signalAtLook(5, () => void (swept = connector.sweep?.()));
    await connector.put('key', patternBytes(20 * MIB), { signal });
    expect(await swept).toEqual({ removed: 0, bytes: 0 });
    expectSameBytes(await connector.get('key'), patternBytes(20 * MIB));
  });
});

describe('stale temp files', () => {
  const HOUR = 3_600_000;
  const deadPid = () => spawnSync('true').pid;
  let thisHost = '';

  beforeEach(async () => {
    let seen = '';
    const signal = signalAtLook(4, () => (seen = tempFiles()[0] ?? ''));
    await filesystem({ path }).put('key', patternBytes(10), { signal });
    expect(seen).toMatch(new RegExp(`^[0-9a-f]{16}-${process.pid}-[0-9a-f-]{36}\\.tmp$`));
    thisHost = seen.slice(0, 16);
  });

  /** A temp file as the process `pid` would name it. */
  function tempOf(pid: number, host = thisHost): string {
    return join(path, 'temp', `${host}-${pid}-${randomUUID()}.tmp`);
  }

  function leave(file: string, ageMs: number): string {
    fs.writeFileSync(file, 'half a value');
    const then = (Date.now() - ageMs) / 1000;
    fs.utimesSync(file, then, then);
    return basename(file);
  }

  it('of dead processes are swept at the first put', async () => {
    leave(tempOf(deadPid()), 0);
    const connector = filesystem({ path });
    await connector.get('key');
    expect(tempFiles()).toHaveLength(1);
    await connector.put('key', patternBytes(10));
    expect(tempFiles()).toEqual([]);
  });

  it('are swept when a sweep is asked for, and counted', async () => {
    leave(tempOf(deadPid()), 0);
    leave(tempOf(deadPid()), 0);
    expect(await filesystem({ path }).sweep?.()).toEqual({ removed: 2, bytes: 24 });
    expect(tempFiles()).toEqual([]);
  });

  it('that an earlier process with our id left are swept', async () => {
    leave(tempOf(process.pid), 1000 * process.uptime() + HOUR);
    await filesystem({ path }).put('key', patternBytes(10));
    expect(tempFiles()).toEqual([]);
  });

  it('of other hosts are swept when they are older than a day', async () => {
    const otherHost = thisHost.replace(/./g, (digit) => (digit === '0' ? '1' : '0'));
    const young = leave(tempOf(1, otherHost), 23 * HOUR);
    leave(tempOf(1, otherHost), 25 * HOUR);
    await filesystem({ path }).put('key', patternBytes(10));
    expect(tempFiles()).toEqual([young]);
  });

  it('are left alone if their process lives or they are not ours', async () => {
    const kept = [
      leave(tempOf(process.ppid), 48 * HOUR),
      leave(tempOf(process.pid), 0),
      leave(join(path, 'temp', 'notes.tmp'), 48 * HOUR),
    ];
    await filesystem({ path }).put('key', patternBytes(10));
    expect(tempFiles().sort()).toEqual(kept.sort());
  });

  it('of a put that runs are not swept by another connector in this process', async () => {
    const value = patternBytes(20 * MIB);
    const signal = signalAtLook(5, () => void (second = filesystem({ path }).put('second', patternBytes(10))));
    let second: Promise<void> | undefined;
    await filesystem({ path }).put('first', value, { signal });
    await second;
    expectSameBytes(await filesystem({ path }).get('first'), value);
    expectSameBytes(await filesystem({ path }).get('second'), patternBytes(10));
  });
});

describe.skipIf(!canTrace)('durable (needs strace that may trace)', () => {
  // Fails the wait for the disk: whoever does not wait does not notice.
  it.each([
    ['put', 'fdatasync'],
    ['put', 'fsync'],
    ['delete', 'fsync'],
  ] as const)('makes a %s wait for %s, which it does not otherwise', { timeout: 20_000 }, async (verb, call) => {
    const fault = inject(`${call}:error=EIO`);
    await filesystem({ path }).put('key', patternBytes(10));
    expect(inChild({ verb, key: 'key', bytes: 10, durable: false }, fault)).toEqual({});
    await filesystem({ path }).put('key', patternBytes(10));
    expect(inChild({ verb, key: 'key', bytes: 10, durable: true }, fault)).toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
  });
});

describe('the largest file size of a process', () => {
  it('below the value fails a put with KV_CONNECTOR_REFUSED', async () => {
    const limited = ['sh', '-c', 'ulimit -f 16; exec "$@"', 'sh'];
    const outcome = inChild({ verb: 'put', key: 'key', bytes: MIB }, limited);
    expect(outcome).toMatchObject({ code: 'KV_CONNECTOR_REFUSED', message: expect.stringContaining('ulimit -f') });
    expect(tempFiles()).toEqual([]);
  });
});

describe('missing permission', () => {
  const asOther = isRoot ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : [];
  const denied = { code: 'KV_PERMISSION', message: expect.stringContaining('permission') };

  it.skipIf(isRoot && !canChangeUser)('to make the directory fails a put (needs setpriv when run as root)', () => {
    const parent = path;
    fs.mkdirSync(parent, { mode: 0o555 });
    usePath(join(parent, 'store'));
    expect(inChild({ verb: 'put', key: 'key', bytes: 10 }, asOther)).toMatchObject(denied);
    expect(fs.existsSync(path)).toBe(false);
  });

  it.skipIf(!canChangeUser)('to ask after a process of another user does not make its temp file stale (needs root and setpriv)', async () => {
    await filesystem({ path }).put('key', patternBytes(10));
    let seen = '';
    const signal = signalAtLook(4, () => (seen = tempFiles()[0] ?? ''));
    await filesystem({ path }).put('key', patternBytes(10), { signal });
    fs.writeFileSync(join(path, 'temp', seen), '');
    execFileSync('chown', ['-R', '65534', path]);
    expect(inChild({ verb: 'put', key: 'key', bytes: 10 }, asOther)).toEqual({});
    expect(tempFiles()).toEqual([seen]);
  });

  it.skipIf(!canChangeUser)('to enter the directory fails a get (needs root and setpriv)', async () => {
    await filesystem({ path }).put('key', patternBytes(10));
    expect(inChild({ verb: 'get', key: 'key' }, asOther)).toMatchObject(denied);
  });
});
