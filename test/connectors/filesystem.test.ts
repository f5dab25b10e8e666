import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { build } from 'tsup';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { filesystem } from '../../connectors/storage/filesystem.js';
import { expectSameBytes, listed, patternBytes, storageConnectorContract } from '../contract/storage-connector.js';
import type { ChildOutcome, ChildTask } from './filesystem-child.js';

const MIB = 1024 * 1024;

// Everything of this file lies in `base`; each test has `path`, a directory that is not there yet. Other users may look
// inside, because some children run as another user.
const base = fs.mkdtempSync(join(tmpdir(), 'kvreel-filesystem-'));
fs.chmodSync(base, 0o755);
let path = '';

function freshPath(): string {
  path = join(base, randomUUID());
  return path;
}

beforeEach(freshPath);
// A store has up to two directories a key, and some disks take milliseconds to remove one.
afterAll(() => fs.rmSync(base, { recursive: true, force: true }), 120_000);

storageConnectorContract('filesystem', { make: () => filesystem({ path: freshPath() }) });
storageConnectorContract('durable filesystem', { make: () => filesystem({ path: freshPath(), durable: true }) });

/** Where the entry of `key` lies; written down here again, so that a change of the layout on disk is noticed. */
function entryFile(key: string): string {
  const digest = createHash('sha256').update(key).digest('hex');
  return join(path, digest.slice(0, 2), digest.slice(2, 4), digest);
}

function tempFiles(): string[] {
  return fs.readdirSync(join(path, 'temp'));
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
    const directories = [path, join(path, 'temp'), dirname(entryFile('key')), dirname(dirname(entryFile('key')))];
    expect(directories.map(modeOf)).toEqual(['700', '700', '700', '700']);
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

describe('a damaged entry', () => {
  const corrupt = { code: 'KV_CORRUPT_OBJECT', retryable: false };
  let connector = filesystem({ path: base });

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

  it.each([0, 1, 527, 528, 529, 9_999, 10_000, 10_527])('cut to %i bytes is found', async (size) => {
    fs.truncateSync(entryFile('key'), size);
    await expectCorruptUntilPutAgain();
  });

  it.each([
    ['from the start', 0],
    ['from its last kilobyte on', 9_504],
    ['in its trailer', 10_000],
    ['in its length', 10_512],
  ])('filled with zeros %s is found', async (_, from) => {
    const file = fs.readFileSync(entryFile('key'));
    fs.writeFileSync(entryFile('key'), file.fill(0, from));
    await expectCorruptUntilPutAgain();
  });

  it.each([
    ['a byte', () => Buffer.from('x')],
    ['its own trailer', () => fs.readFileSync(entryFile('key')).subarray(10_000)],
  ])('with %s appended is found', async (_, tail) => {
    fs.appendFileSync(entryFile('key'), tail());
    await expectCorruptUntilPutAgain();
  });

  it('with another magic is found', async () => {
    const file = fs.readFileSync(entryFile('key'));
    fs.writeFileSync(entryFile('key'), file.fill('2', 10_527));
    await expectCorruptUntilPutAgain();
  });

  it('that is the entry of another key is found', async () => {
    await connector.put('other', patternBytes(10_000, 1));
    fs.renameSync(entryFile('other'), entryFile('key'));
    await expectCorruptUntilPutAgain();
  });

  it('that is a symbolic link is not followed, and a put replaces the link and not what it leads to', async () => {
    const target = join(path, 'target');
    fs.renameSync(entryFile('key'), target);
    const before = fs.readFileSync(target);
    fs.symlinkSync(target, entryFile('key'));
    expect(await connector.has('key')).toBe(false);
    await expectCorruptUntilPutAgain();
    expectSameBytes(fs.readFileSync(target), before);
  });

  it('that is a FIFO is found without waiting for a writer', async () => {
    fs.rmSync(entryFile('key'));
    execFileSync('mkfifo', [entryFile('key')]);
    expect(await connector.has('key')).toBe(false);
    await expectCorruptUntilPutAgain();
  });

  it('that is a directory is found by every verb, and left alone', async () => {
    fs.rmSync(entryFile('key'));
    fs.mkdirSync(entryFile('key'));
    expect(await connector.has('key')).toBe(false);
    await expect(connector.get('key')).rejects.toMatchObject({ ...corrupt, message: expect.stringContaining('no regular file') });
    await expect(connector.put('key', patternBytes(1))).rejects.toMatchObject(corrupt);
    await expect(connector.delete('key')).rejects.toMatchObject(corrupt);
    expect(fs.statSync(entryFile('key')).isDirectory()).toBe(true);
    expect(tempFiles()).toEqual([]);
  });

  it('that is too short for a trailer is called so', async () => {
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
});

/** A signal that does `action` the n-th time a connector looks at it: between two steps of a call, always the same two. */
function signalAtLook(n: number, action: (controller: AbortController) => void): AbortSignal {
  const controller = new AbortController();
  let looks = 0;
  controller.signal.throwIfAborted = () => {
    if (++looks === n) action(controller);
    AbortSignal.prototype.throwIfAborted.call(controller.signal);
  };
  return controller.signal;
}

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
    // Before it starts, before each of 3 writes, before the trailer, the wait for the disk and the rename.
    expect(aborted).toBe(7);
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

  // The 4th look comes after the first 16 MiB were read.
  it.each([
    ['deleted', () => fs.rmSync(entryFile('key'))],
    ['replaced', () => fs.cpSync(entryFile('other'), `${entryFile('key')}.new`)],
  ])('the entry may be %s: the get that has it open gives the old value whole', async (_, change) => {
    const connector = filesystem({ path });
    await connector.put('key', value);
    await connector.put('other', patternBytes(100));
    const signal = signalAtLook(4, () => {
      change();
      if (fs.existsSync(`${entryFile('key')}.new`)) fs.renameSync(`${entryFile('key')}.new`, entryFile('key'));
    });
    expectSameBytes(await connector.get('key', { signal }), value);
  });

  it('the entry may be cut short: the get rejects with KV_CORRUPT_OBJECT', async () => {
    const connector = filesystem({ path });
    await connector.put('key', value);
    const signal = signalAtLook(4, () => fs.truncateSync(entryFile('key'), 20 * MIB));
    await expect(connector.get('key', { signal })).rejects.toMatchObject({ code: 'KV_CORRUPT_OBJECT' });
  });

  it('the temp file may be removed: the put can be tried again', async () => {
    const connector = filesystem({ path });
    const signal = signalAtLook(3, () => tempFiles().forEach((name) => fs.rmSync(join(path, 'temp', name))));
    await expect(connector.put('key', value, { signal })).rejects.toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
    expect(await connector.has('key')).toBe(false);
    await connector.put('key', patternBytes(10));
  });
});

describe('short reads and writes', () => {
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
});

describe('whole and range gets', () => {
  afterEach(() => vi.restoreAllMocks());

  it('read the value in one call, straight into the caller\'s memory', async () => {
    const connector = filesystem({ path });
    await connector.put('key', patternBytes(MIB));
    const handle = await open('/dev/null');
    const read = vi.spyOn(Object.getPrototypeOf(handle) as FileHandle, 'read');
    await handle.close();
    const into = new Uint8Array(MIB);
    for (const [offset, length] of [[0, MIB], [5000, 100_000]] as const) {
      read.mockClear();
      await connector.get('key', { range: { offset, length }, into });
      const ofValue = (read.mock.calls as unknown[][]).filter(([target]) => (target as Uint8Array).buffer === into.buffer);
      expect(ofValue.map(([, , bytes, position]) => [bytes, position])).toEqual([[length, offset]]);
      expect(read).toHaveBeenCalledTimes(2); // the other is the trailer
    }
  });
});

describe('stale temp files', () => {
  const HOUR = 3_600_000;
  const deadPid = () => spawnSync('true').pid;
  let thisHost = '';

  beforeEach(async () => {
    let seen = '';
    const signal = signalAtLook(2, () => (seen = tempFiles()[0] ?? ''));
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
    const signal = signalAtLook(3, () => void (second = filesystem({ path }).put('second', patternBytes(10))));
    let second: Promise<void> | undefined;
    await filesystem({ path }).put('first', value, { signal });
    await second;
    expectSameBytes(await filesystem({ path }).get('first'), value);
    expectSameBytes(await filesystem({ path }).get('second'), patternBytes(10));
  });
});

// From here on: what needs another process, root or a tool. Each is skipped, and says why, where it is missing.

const isRoot = process.getuid?.() === 0;
const works = (command: string, ...args: string[]) => spawnSync(command, args).status === 0;
const canTrace = works('strace', '-f', '-e', 'inject=rename:error=EIO', '-o', '/dev/null', 'true');
const canChangeUser = isRoot && works('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'true');
const canMount = isRoot && mountWorks();

function mountWorks(): boolean {
  const place = join(base, 'mount-probe');
  fs.mkdirSync(place);
  if (!works('mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', place)) return false;
  return works('umount', place);
}

let childScript = '';

beforeAll(async () => {
  const entry = { 'filesystem-child': 'test/connectors/filesystem-child.ts' };
  await build({ entry, outDir: base, format: 'esm', outExtension: () => ({ js: '.mjs' }), config: false, silent: true, dts: false });
  childScript = join(base, 'filesystem-child.mjs');
});

/** Runs one verb in a process of its own, behind the command `before`; undefined if it was killed. */
function inChild(task: Omit<ChildTask, 'path'>, before: readonly string[] = []): ChildOutcome | undefined {
  const [command = '', ...args] = [...before, process.execPath, childScript, JSON.stringify({ path, ...task })];
  const child = spawnSync(command, args, { encoding: 'utf8', cwd: base });
  if (child.signal === 'SIGKILL') return undefined;
  if (child.status !== 0) throw new Error(`the child ended with ${child.status ?? child.signal}: ${child.stderr}`);
  return JSON.parse(child.stdout) as ChildOutcome;
}

const inject = (fault: string) => ['strace', '-f', '-o', '/dev/null', '-e', `inject=${fault}`];

describe('two processes that write one key', () => {
  it('leave one whole value at every moment', { timeout: 30_000 }, async () => {
    const connector = filesystem({ path });
    await connector.put('key', new Uint8Array(MIB).fill(1));
    const writers = [1, 2].map((fill) => {
      const task: ChildTask = { path, verb: 'put', key: 'key', bytes: fill * MIB, fill, times: 100 };
      return once(execFile(process.execPath, [childScript, JSON.stringify(task)]), 'exit');
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

describe.skipIf(!canTrace)('SIGKILL in a put (needs strace that may trace)', () => {
  // A first put of a store: makes path, temp and two fan-out directories; 40 MiB go out in three writes, then the trailer.
  // The first fsync is that of the directory above. The first rename finds no fan-out directory, so the second one publishes;
  // three fsyncs follow.
  it.each([
    'mkdir:when=1',
    'mkdir:when=2',
    'mkdir:when=3',
    'pwrite64:when=1',
    'pwrite64:when=2',
    'pwrite64:when=4',
    'fdatasync:when=1',
    'rename:when=1',
    'rename:when=2',
    'fsync:when=1',
    'fsync:when=2',
    'fsync:when=4',
  ])('at %s leaves no value or the whole one, and its temp file is swept', { timeout: 20_000 }, async (step) => {
    const [call, when] = step.split(':');
    const put = { verb: 'put', key: 'key', bytes: 40 * MIB, fill: 7, durable: true } as const;
    expect(inChild(put, ['env', 'UV_THREADPOOL_SIZE=1', ...inject(`${call}:signal=KILL:${when}`)])).toBeUndefined();

    const connector = filesystem({ path });
    const value = await connector.get('key');
    if (step === 'fsync:when=2' || step === 'fsync:when=4') expect(value).toBeDefined();
    if (value !== undefined) expectSameBytes(value, new Uint8Array(40 * MIB).fill(7));
    await connector.put('key', patternBytes(10));
    expectSameBytes(await connector.get('key'), patternBytes(10));
    expect(tempFiles()).toEqual([]);
  });

  it.each(['pwrite64', 'fdatasync', 'rename'])('at %s keeps the old value', { timeout: 20_000 }, async (call) => {
    const connector = filesystem({ path });
    await connector.put('key', patternBytes(1000));
    const put = { verb: 'put', key: 'key', bytes: 1000, fill: 7, durable: true } as const;
    expect(inChild(put, inject(`${call}:signal=KILL:when=1`))).toBeUndefined();
    expectSameBytes(await connector.get('key'), patternBytes(1000));
  });
});

describe.skipIf(!canTrace)('an error of the system (needs strace that may trace)', () => {
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

  it('EIO fails a get with KV_CONNECTOR_UNAVAILABLE', { timeout: 20_000 }, async () => {
    await filesystem({ path }).put('key', patternBytes(1000));
    const trace = ['strace', '-f', '-o', '/dev/null', '-P', entryFile('key'), '-e', 'inject=pread64:error=EIO'];
    expect(inChild({ verb: 'get', key: 'key' }, trace)).toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE' });
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

describe('limits of a process', () => {
  it('no free descriptor fails a get with KV_CONNECTOR_UNAVAILABLE', async () => {
    await filesystem({ path }).put('key', patternBytes(1000));
    const limited = ['sh', '-c', 'ulimit -n 64; exec "$@"', 'sh'];
    const outcome = inChild({ verb: 'get-without-descriptors', key: 'key' }, limited);
    expect(outcome).toMatchObject({ code: 'KV_CONNECTOR_UNAVAILABLE', message: expect.stringContaining('ulimit -n') });
  });

  it('a largest file size below the value fails a put with KV_CONNECTOR_REFUSED', async () => {
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
    path = join(parent, 'store');
    expect(inChild({ verb: 'put', key: 'key', bytes: 10 }, asOther)).toMatchObject(denied);
    expect(fs.existsSync(path)).toBe(false);
  });

  it.skipIf(!canChangeUser)('to ask after a process of another user does not make its temp file stale (needs root and setpriv)', async () => {
    await filesystem({ path }).put('key', patternBytes(10));
    let seen = '';
    const signal = signalAtLook(2, () => (seen = tempFiles()[0] ?? ''));
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

describe.skipIf(!canMount)('a small disk (needs root that may mount)', () => {
  beforeEach(() => {
    fs.mkdirSync(path);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=700', 'tmpfs', path]);
    const place = path;
    onTestFinished(() => void execFileSync('umount', [place]));
  });

  it('that is full fails a put with KV_NO_SPACE, keeps the old value and leaves no file', async () => {
    const connector = filesystem({ path });
    await connector.put('key', patternBytes(MIB));
    await expect(connector.put('key', patternBytes(3 * MIB))).rejects.toMatchObject({ code: 'KV_NO_SPACE', retryable: false });
    expectSameBytes(await connector.get('key'), patternBytes(MIB));
    expect(tempFiles()).toEqual([]);
    await connector.delete('key');
    await connector.put('key', patternBytes(MIB + 1));
  });

  it('that is mounted read-only fails puts and deletes with KV_PERMISSION, and gets go on', async () => {
    await filesystem({ path }).put('key', patternBytes(MIB));
    execFileSync('mount', ['-o', 'remount,ro', path]);
    const connector = filesystem({ path });
    const readOnly = { code: 'KV_PERMISSION', message: expect.stringContaining('read-only') };
    await expect(connector.put('key', patternBytes(1))).rejects.toMatchObject(readOnly);
    await expect(connector.delete('key')).rejects.toMatchObject(readOnly);
    expectSameBytes(await connector.get('key'), patternBytes(MIB));
    expect(await listed(connector, '')).toEqual([{ key: 'key', bytes: MIB }]);
  });
});
