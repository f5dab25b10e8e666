import { lstat, mkdir, open, readdir, rename, rm, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { KvError } from '../../lib/errors.js';
import type { CallOptions, GetOptions, ListedValue, PutOptions, StorageConnector } from '../../lib/store/connector.js';
import { checkFields, checkKey, checkPrefix, checkPut, checkRange, placeRead } from './arguments.js';
import { corrupt, entryPath, openEntry, readFully, writeEntry } from './filesystem/entry-file.js';
import { hasSystemCode, toConnectorError } from './filesystem/errors.js';
import { sweepTempFiles, tempPath } from './filesystem/temp-file.js';
import { lifeCycle } from './life-cycle.js';

export interface FilesystemOptions {
  /** Directory of the store. Made at the first put, for this user alone. Two stores must not share one. */
  readonly path: string;
  /**
   * Whether a put or delete that resolved survives a power cut. Default false: a cut may lose late values, and one that it
   * damaged is found when it is read. True costs a wait for the disk on each put and delete.
   */
  readonly durable?: boolean;
}

const FAN_OUT_NAME = /^[0-9a-f]{2}$/;
const ENTRY_NAME = /^[0-9a-f]{64}$/;

/**
 * Keeps each value in a file of its own, published by rename: another process sees the old value or the new one.
 * Beside KV_CLOSED, verbs reject with KV_NO_SPACE, KV_PERMISSION, KV_CONNECTOR_REFUSED (path or size), KV_CORRUPT_OBJECT (an
 * entry that was damaged or is not ours) or KV_CONNECTOR_UNAVAILABLE. An abort takes effect between two reads or writes of
 * at most 16 MiB, never while the caller's memory is still in use. `has` does not open the file: only `get` verifies it.
 */
export function filesystem(options: FilesystemOptions): StorageConnector {
  checkOptions(options);
  const { durable = false } = options;
  const root = resolve(options.path);
  const tempDirectory = join(root, 'temp');
  const name = 'filesystem';
  const supports = { range: true, ttl: false };
  const life = lifeCycle(name);
  let prepared: Promise<void> | undefined;

  function run<T>(attempt: string, options: CallOptions, work: () => Promise<T>): Promise<T> {
    return life.run(options, async () => {
      try {
        return await work();
      } catch (cause) {
        throw toConnectorError(cause, `${attempt} in ${root}`);
      }
    });
  }

  async function prepare(): Promise<void> {
    const firstMade = await mkdir(root, { recursive: true, mode: 0o700 });
    await mkdir(tempDirectory, { recursive: true, mode: 0o700 });
    await sweepTempFiles(tempDirectory);
    if (durable && firstMade !== undefined) await syncDirectories(dirname(root), dirname(firstMade));
  }

  async function publish(key: string, value: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const path = entryPath(root, key);
    const temp = tempPath(tempDirectory);
    try {
      await writeEntry(temp, key, value, { durable, signal });
      signal?.throwIfAborted();
      await moveTo(path, temp);
    } catch (cause) {
      // The first failure is the one to report; a temp file that cannot be removed now is swept by a later process.
      await rm(temp, { force: true }).catch(() => undefined);
      throw cause;
    }
    if (durable) await syncDirectories(dirname(path), root);
  }

  return {
    name,
    supports,

    get: (key: string, options: GetOptions = {}) =>
      run(`get "${key}"`, options, async () => {
        checkKey(key);
        checkRange(options.range);
        const path = entryPath(root, key);
        const entry = await openEntry(path, options.signal);
        if (entry === undefined) return undefined;
        try {
          if (entry.key !== key) throw corrupt(path, 'holds the value of another key');
          const place = placeRead(entry.valueBytes, options);
          await readFully(entry, place, options.signal);
          options.signal?.throwIfAborted();
          return place.target;
        } finally {
          await entry.handle.close();
        }
      }),

    put: (key: string, value: Uint8Array, options: PutOptions = {}) =>
      run(`put "${key}"`, options, async () => {
        checkKey(key);
        checkPut(value, options, supports.ttl);
        try {
          await (prepared ??= prepare());
          await publish(key, value, options.signal);
        } catch (cause) {
          prepared = undefined; // perhaps the directory was removed: the next put looks again
          throw cause;
        }
      }),

    has: (key, options = {}) =>
      run(`look for "${key}"`, options, async () => {
        checkKey(key);
        const stats = await unlessMissing(lstat(entryPath(root, key)));
        return stats?.isFile() ?? false;
      }),

    delete: (key, options = {}) =>
      run(`delete "${key}"`, options, async () => {
        checkKey(key);
        const path = entryPath(root, key);
        const wasThere = (await unlessMissing(unlink(path).then(() => true))) ?? false;
        if (durable && wasThere) await syncDirectories(dirname(path), dirname(path));
        return wasThere;
      }),

    async *list(prefix, options = {}): AsyncGenerator<ListedValue> {
      // Each step is a call of its own, so that a caller who stops half way keeps neither a file open nor close() waiting.
      const step = <T>(work: () => Promise<T>) => run(`list "${prefix}"`, options, work);
      const outer = await step(async () => {
        checkPrefix(prefix);
        return namesIn(root, FAN_OUT_NAME);
      });
      for (const first of outer) {
        const inner = await step(() => namesIn(join(root, first), FAN_OUT_NAME));
        for (const second of inner) {
          const values = await step(() => valuesIn(root, join(root, first, second), options.signal));
          yield* values.filter(({ key }) => key.startsWith(prefix));
        }
      }
    },

    close: () => life.close(),
  };
}

function checkOptions(options: FilesystemOptions): void {
  checkFields(options, ['path', 'durable']);
  const { path, durable = false } = options;
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw new TypeError(`expected \`path\` to name a directory, got ${JSON.stringify(path)}`);
  }
  if (typeof durable !== 'boolean') throw new TypeError(`expected \`durable\` to be true or false, got ${typeof durable}`);
}

async function moveTo(path: string, temp: string): Promise<void> {
  try {
    await rename(temp, path);
  } catch (cause) {
    if (!hasSystemCode(cause, 'ENOENT')) throw cause;
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await rename(temp, path);
  }
}

/** Makes the names in `directory` and in each one above it up to `top` survive a power cut. */
async function syncDirectories(directory: string, top: string): Promise<void> {
  for (let current = directory; ; current = dirname(current)) {
    const handle = await open(current, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (current === top) return;
  }
}

async function namesIn(directory: string, pattern: RegExp): Promise<string[]> {
  const names = (await unlessMissing(readdir(directory))) ?? [];
  return names.filter((name) => pattern.test(name));
}

/** The values of one fan-out directory. A damaged entry has no key to list, so it is left out; `get` reports it. */
async function valuesIn(root: string, directory: string, signal: AbortSignal | undefined): Promise<ListedValue[]> {
  const values: ListedValue[] = [];
  for (const name of await namesIn(directory, ENTRY_NAME)) {
    const path = join(directory, name);
    const entry = await unlessCorrupt(openEntry(path, signal));
    if (entry === undefined) continue;
    await entry.handle.close();
    if (entryPath(root, entry.key) === path) values.push({ key: entry.key, bytes: entry.valueBytes });
  }
  return values;
}

async function unlessMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (cause) {
    if (hasSystemCode(cause, 'ENOENT')) return undefined;
    throw cause;
  }
}

async function unlessCorrupt<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (cause) {
    if (cause instanceof KvError && cause.code === 'KV_CORRUPT_OBJECT') return undefined;
    throw cause;
  }
}
