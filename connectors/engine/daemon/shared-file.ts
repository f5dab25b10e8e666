// A file in shared memory, mapped as it is used. Native threads work in it, so nobody may unmap a range that somebody works in.
import { closeSync, fstatSync } from 'node:fs';
import { native } from '../../../lib/codec/native.js';
import { KvError, type KvErrorCode } from '../../../lib/errors.js';

/** Of one range that is used. */
export const MAX_RANGE_BYTES = 2 ** 30;
// Windows overlap by half, so that each range lies inside of one; a whole pool may be larger than one ArrayBuffer can be.
const WINDOW_STEP = MAX_RANGE_BYTES;
const WINDOW_BYTES = 2 * WINDOW_STEP;
/** What memory is taken for at once. */
const GRANULE_BYTES = 1 << 20;

export interface SharedFile {
  readonly bytes: number;
  /** Marks it as in use; false if another process has. */
  lock(): boolean;
  /**
   * A view of a range inside `bytes`, of at most MAX_RANGE_BYTES. Memory is taken for it first, because a page that is missing when it is touched ends
   * the process. Rejects with KV_STALE_SEGMENT if the file has become shorter, KV_NO_SPACE if there is no memory.
   */
  range(offset: number, length: number): Promise<Uint8Array>;
  /** Unmaps it: no view may be in use. */
  close(): void;
}

/** Opens a file of this user, or makes it with `createBytes` above 0. Throws a KvError that says what is wrong with it. */
export function openSharedFile(path: string, createBytes = 0): SharedFile {
  const [file, bytes] = asSharedErrors(path, () => native().openShared(path, createBytes));
  const windows = new Map<number, ArrayBuffer>();
  const isReserved = new Uint8Array(Math.ceil(bytes / GRANULE_BYTES));

  function windowAt(index: number): ArrayBuffer {
    const known = windows.get(index);
    if (known !== undefined) return known;
    const begin = index * WINDOW_STEP;
    const mapped = asSharedErrors(path, () => native().mapFile(file, begin, Math.min(WINDOW_BYTES, bytes - begin)));
    windows.set(index, mapped);
    return mapped;
  }

  async function reserve(offset: number, length: number): Promise<void> {
    const [first, end] = [Math.floor(offset / GRANULE_BYTES), Math.ceil((offset + length) / GRANULE_BYTES)];
    if (isReserved.subarray(first, end).every((granule) => granule === 1)) return;
    const begin = first * GRANULE_BYTES;
    try {
      await native().reserveFile(file, begin, Math.min(end * GRANULE_BYTES, bytes) - begin);
    } catch (error) {
      throw sharedError(path, error);
    }
    isReserved.fill(1, first, end);
  }

  return {
    bytes,
    lock: () => native().lockFile(file),
    async range(offset, length) {
      if (length === 0) return new Uint8Array(0);
      await reserve(offset, length);
      if (fstatSync(file).size < offset + length) throw new KvError('KV_STALE_SEGMENT', `${path} has become shorter than it was; attach it again`);
      const index = Math.floor(offset / WINDOW_STEP);
      return new Uint8Array(windowAt(index), offset - index * WINDOW_STEP, length);
    },
    close() {
      for (const mapped of windows.values()) native().unmapFile(mapped);
      windows.clear();
      closeSync(file);
    },
  };
}

const ANSWERS: Readonly<Record<string, readonly [KvErrorCode, string]>> = {
  ENOENT: ['KV_INVALID_INPUT', 'there is no such file'],
  ELOOP: ['KV_INVALID_INPUT', 'it is a symbolic link; name the file itself'],
  EISDIR: ['KV_INVALID_INPUT', 'it is a directory'],
  ENXIO: ['KV_INVALID_INPUT', 'it is no regular file'],
  ENOTREG: ['KV_INVALID_INPUT', 'it is no regular file'],
  ENOTOWN: ['KV_PERMISSION', 'it belongs to another user than the daemon'],
  EACCES: ['KV_PERMISSION', 'the daemon may not read and write it'],
  EEXIST: ['KV_EXISTS', 'it exists'],
  ENOSPC: ['KV_NO_SPACE', 'there is not enough shared memory; enlarge /dev/shm (docker run --shm-size) or use smaller segments'],
  ENOMEM: ['KV_NO_SPACE', 'there is not enough memory'],
  EFBIG: ['KV_NO_SPACE', 'it is larger than allowed here'],
};

function asSharedErrors<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw sharedError(path, error);
  }
}

function sharedError(path: string, cause: unknown): unknown {
  if (!(cause instanceof Error && 'code' in cause && typeof cause.code === 'string') || cause instanceof KvError) return cause;
  const [code, advice] = ANSWERS[cause.code] ?? ['KV_UNSUPPORTED', 'the system refuses to share it'];
  return new KvError(code, `${path}: ${advice} (${cause.code})`, { cause });
}
