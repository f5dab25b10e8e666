import { mkdir, open, rename, rm, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { callQueue } from '../../lib/store/call-queue.js';
import type { CallOptions, GetOptions, ListedValue, PutOptions, StorageConnector, SweepResult } from '../../lib/store/connector.js';
import { checkFields, checkKey, checkPrefix, checkPut, checkRange, placeRead } from './arguments.js';
import { entryDirectories, sweepEntries, unlessCorrupt, valuesIn, withEntry } from './filesystem/entries.js';
import { corrupt, entryPath, openEntry, readFully, readInto, writeEntry, type NewEntry } from './filesystem/entry-file.js';
import { hasSystemCode, toConnectorError, unlessMissing } from './filesystem/errors.js';
import { lifetimeFromNow } from './filesystem/lifetime.js';
import { sweepTempFiles, tempPath } from './filesystem/temp-file.js';
import { lifeCycle } from './life-cycle.js';

/** Half of the threads that Node has for files, unless it is told otherwise: puts that wait for the disk leave gets the others. */
const PUTS_AT_ONCE = 2;

const NOTHING = { offset: 0, length: 0 };
const NO_MEMORY = new Uint8Array(0);

export interface FilesystemOptions {
  /** Directory of the store. Made at the first put, for this user alone. Processes may share one; `bounded` counts only what its own puts. */
  readonly path: string;
  /**
   * Whether a put or delete that resolved survives a power cut. Default false: a cut may lose late values, and one that it
   * damaged is found when it is read. True costs a wait for the disk on each put and delete.
   */
  readonly durable?: boolean;
}

/**
 * Keeps each value in a file of its own, published by rename: another process sees the old value or the new one.
 * Beside KV_CLOSED, verbs reject with KV_NO_SPACE, KV_PERMISSION, KV_CONNECTOR_REFUSED (path or size), KV_CORRUPT_OBJECT (an
 * entry that was damaged or is not ours) or KV_CONNECTOR_UNAVAILABLE. A put notices an abort between two writes of at most
 * 16 MiB. A call that hangs in the disk is left behind soon after its abort, and what it still wrote is never published.
 *
 * The time of `ttlMs` is never prolonged by a clock that is set while the machine runs, nor by more than itself if it is set
 * between two starts or read by a machine whose clock is behind; a clock that is set forward makes misses.
 */
export function filesystem(options: FilesystemOptions): StorageConnector {
  checkOptions(options);
  const { durable = false } = options;
  const root = resolve(options.path);
  const tempDirectory = join(root, 'temp');
  const name = 'filesystem';
  const supports = { range: true, ttl: true };
  const life = lifeCycle(name);
  const puts = callQueue(PUTS_AT_ONCE);
  let prepared: Promise<void> | undefined;

  function run<T>(attempt: string, options: CallOptions, work: (signal: AbortSignal | undefined) => Promise<T>): Promise<T> {
    return life.run(options, async (signal) => {
      try {
        return await work(signal);
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

  async function publish(entry: NewEntry, signal: AbortSignal | undefined): Promise<void> {
    const path = entryPath(root, entry.key);
    const temp = tempPath(tempDirectory);
    try {
      await writeEntry(temp, entry, { durable, signal });
      signal?.throwIfAborted();
      await moveTo(path, temp);
    } catch (cause) {
      // The first failure is the one to report; a temp file that cannot be removed now is swept by a later process.
      await rm(temp, { force: true }).catch(() => undefined);
      throw cause;
    }
    if (durable) await syncDirectories(dirname(path), root);
  }

  /** The value, or a part of it, in the caller's memory. One whose time is over is removed. */
  async function read(key: string, options: GetOptions & { readonly into: Uint8Array }): Promise<Uint8Array | undefined> {
    const path = entryPath(root, key);
    const value = await readInto(path, key, options);
    if (value !== 'over') return value;
    const entry = await openEntry(path, options.signal);
    return entry && withEntry(entry, async () => undefined);
  }

  /** Whether there is a whole entry of this key whose time is not over. */
  async function isThere(key: string, options: CallOptions): Promise<boolean> {
    return (await unlessCorrupt(read(key, { ...options, range: NOTHING, into: NO_MEMORY }))) !== undefined;
  }

  return {
    name,
    supports,

    get: (key: string, options: GetOptions = {}) =>
      run(`get "${key}"`, options, async (signal) => {
        checkKey(key);
        checkRange(options.range);
        const { into } = options;
        if (into !== undefined) return read(key, { ...options, into });
        const path = entryPath(root, key);
        const entry = await openEntry(path, signal);
        if (entry === undefined) return undefined;
        return withEntry(entry, async () => {
          if (entry.key !== key) throw corrupt(path, 'holds the value of another key');
          const place = placeRead(entry.valueBytes, options);
          await readFully(entry, place, signal);
          signal?.throwIfAborted();
          return place.target;
        });
      }),

    put: (key: string, value: Uint8Array, options: PutOptions = {}) =>
      run(`put "${key}"`, options, async (signal) => {
        checkKey(key);
        checkPut(value, options, supports.ttl);
        const lifetime = options.ttlMs === undefined ? undefined : lifetimeFromNow(options.ttlMs);
        try {
          await (prepared ??= prepare());
          await puts.run(options, () => publish({ key, value, lifetime }, signal));
        } catch (cause) {
          prepared = undefined; // perhaps the directory was removed: the next put looks again
          throw cause;
        }
      }),

    has: (key, options = {}) =>
      run(`look for "${key}"`, options, async () => {
        checkKey(key);
        return isThere(key, options);
      }),

    delete: (key, options = {}) =>
      run(`delete "${key}"`, options, async (signal) => {
        checkKey(key);
        const path = entryPath(root, key);
        await isThere(key, options); // removes a value whose time is over, which is not there to delete
        signal?.throwIfAborted();
        const wasThere = (await unlessMissing(unlink(path).then(() => true))) ?? false;
        if (durable && wasThere) await syncDirectories(dirname(path), dirname(path));
        return wasThere;
      }),

    async *list(prefix, options = {}): AsyncGenerator<ListedValue> {
      // Each step is a call of its own, so that a caller who stops half way keeps neither a file open nor close() waiting.
      const step = <T>(work: (signal: AbortSignal | undefined) => Promise<T>) => run(`list "${prefix}"`, options, work);
      const directories = await step(async () => {
        checkPrefix(prefix);
        return entryDirectories(root);
      });
      for (const directory of directories) {
        const values = await step((signal) => valuesIn(root, directory, signal));
        yield* values.filter(({ key }) => key.startsWith(prefix));
      }
    },

    /** Removes temp files of dead processes, damaged entries and those whose time is over. */
    async sweep(options = {}): Promise<SweepResult> {
      const step = <T>(work: (signal: AbortSignal | undefined) => Promise<T>) => run('sweep', options, work);
      const sweeps = [await step(async () => (await unlessMissing(sweepTempFiles(tempDirectory))) ?? { removed: 0, bytes: 0 })];
      for (const directory of await step(() => entryDirectories(root))) sweeps.push(await step((signal) => sweepEntries(root, directory, signal)));
      return sweeps.reduce((sum, { removed, bytes }) => ({ removed: sum.removed + removed, bytes: sum.bytes + bytes }));
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
