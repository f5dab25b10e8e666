// An entry file is the value, then, if that has a time to live, its lifetime (32 bytes), then a trailer of fixed size:
//
//   key, padded with zeros   512 bytes
//   value length               8 bytes, little-endian
//   magic                      8 bytes: "kvreel.1", or "kvreel.2" if there is a lifetime
//
// The value starts at byte 0, so a range of it is the same range of the file and needs one read. The trailer is written last
// and says the key: a file that was cut short, zero-filled at its end, or put in another key's place is noticed.
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { KvError } from '../../../lib/errors.js';
import type { GetOptions } from '../../../lib/store/connector.js';
import { readEntryFile } from '../../../lib/store/entry-reader.js';
import { MAX_KEY_BYTES, placeRead, type ReadPlace } from '../arguments.js';
import { hasSystemCode } from './errors.js';
import { isOver, LIFETIME_BYTES, packLifetime, unpackLifetime, type Lifetime } from './lifetime.js';

const MAGIC = Buffer.from('kvreel.1', 'latin1');
const MAGIC_WITH_LIFETIME = Buffer.from('kvreel.2', 'latin1');
const LENGTH_AT = MAX_KEY_BYTES;
const MAGIC_AT = LENGTH_AT + 8;
const TRAILER_BYTES = MAGIC_AT + MAGIC.byteLength;
const PADDING = Buffer.alloc(MAX_KEY_BYTES);

/** Bytes moved between two looks at the abort signal. Large, because each move costs a trip through the thread pool. */
const STEP_BYTES = 16 << 20;

/** O_NONBLOCK: opening a FIFO that stands in an entry's place must not wait for a writer. */
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const CREATE_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** The file for `key` under `root`. Only hex digits of the key's SHA-256 reach the path, never the key. */
export function entryPath(root: string, key: string): string {
  const digest = createHash('sha256').update(key).digest('hex');
  return join(root, digest.slice(0, 2), digest);
}

/** An entry file open for reading; whoever opened it closes `handle`. */
export interface OpenEntry {
  readonly handle: FileHandle;
  readonly path: string;
  /** Tells this file from one that has taken its place. */
  readonly inode: number;
  /** When it was written, in milliseconds since 1970. */
  readonly storedAtMs: number;
  readonly key: string;
  readonly valueBytes: number;
  /** Whether its time to live has passed. */
  readonly isOver: boolean;
}

/** Opens an entry and reads its trailer; undefined if there is no file. Rejects with KV_CORRUPT_OBJECT if it is no entry. */
export async function openEntry(path: string, signal?: AbortSignal): Promise<OpenEntry | undefined> {
  const handle = await openForReading(path);
  if (handle === undefined) return undefined;
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw corrupt(path, 'is no regular file');
    if (stats.size < TRAILER_BYTES) throw corrupt(path, 'is too short to be an entry');
    const tail = Buffer.alloc(Math.min(stats.size, LIFETIME_BYTES + TRAILER_BYTES));
    await readFully({ handle, path }, { offset: stats.size - tail.byteLength, target: tail }, signal);
    return { handle, path, inode: stats.ino, storedAtMs: stats.mtimeMs, ...readTail(tail, stats.size, path) };
  } catch (cause) {
    await handle.close();
    throw cause;
  }
}

/**
 * Reads a value, or a part of it, into memory of the caller, in one trip to a thread where `openEntry` and `readFully` take four.
 * Undefined if there is no file, `over` if its time is. Rejects as they do, and with a RangeError if the memory is too small.
 */
export async function readInto(path: string, key: string, options: GetOptions & { readonly into: Uint8Array }): Promise<Uint8Array | 'over' | undefined> {
  const { range = { offset: 0, length: Number.MAX_SAFE_INTEGER }, into } = options;
  const tail = Buffer.alloc(LIFETIME_BYTES + TRAILER_BYTES);
  const read = await asEntryFile(path, readEntryFile(path, { key: makeTail(key, 0, undefined), tail, ...range, into }));
  if (read === undefined) return undefined;
  const [fileBytes, bytesRead] = read;
  if (Number.isNaN(fileBytes)) throw corrupt(path, 'is no regular file');
  if (fileBytes < TRAILER_BYTES) throw corrupt(path, 'is too short to be an entry');
  const entry = readTail(tail.subarray(0, Math.min(fileBytes, tail.byteLength)), fileBytes, path);
  if (entry.isOver) return 'over';
  if (entry.key !== key) throw corrupt(path, 'holds the value of another key');
  const { target } = placeRead(entry.valueBytes, options);
  if (bytesRead !== target.byteLength) throw corrupt(path, 'was cut short while it was read');
  return target;
}

/** Fills `target` from byte `offset` of the file on. Rejects with KV_CORRUPT_OBJECT if the file ends first. */
export async function readFully(
  { handle, path }: Pick<OpenEntry, 'handle' | 'path'>,
  { offset, target }: ReadPlace,
  signal?: AbortSignal,
): Promise<void> {
  for (let done = 0; done < target.byteLength; ) {
    signal?.throwIfAborted();
    const length = Math.min(STEP_BYTES, target.byteLength - done);
    const { bytesRead } = await handle.read(target, done, length, offset + done);
    if (bytesRead === 0) throw corrupt(path, 'was cut short while it was read');
    done += bytesRead;
  }
}

/** What to write into an entry file. */
export interface NewEntry {
  readonly key: string;
  readonly value: Uint8Array;
  readonly lifetime: Lifetime | undefined;
}

/** Writes a new entry file; rejects with the system's EEXIST if there is one. `durable` waits until the disk has it. */
export async function writeEntry(
  path: string,
  { key, value, lifetime }: NewEntry,
  options: { readonly durable: boolean; readonly signal: AbortSignal | undefined },
): Promise<void> {
  const handle = await open(path, CREATE_FLAGS, 0o600);
  try {
    await writeFully(handle, { offset: 0, bytes: value }, options.signal);
    await writeFully(handle, { offset: value.byteLength, bytes: makeTail(key, value.byteLength, lifetime) }, options.signal);
    options.signal?.throwIfAborted();
    if (options.durable) await handle.datasync();
  } finally {
    await handle.close();
  }
}

/** What to throw for an entry that cannot be the one asked for. */
export function corrupt(path: string, finding: string, cause?: unknown): KvError {
  return new KvError('KV_CORRUPT_OBJECT', `the entry ${path} ${finding}; delete its key or put it again`, { cause });
}

const openForReading = (path: string): Promise<FileHandle | undefined> => asEntryFile(path, open(path, READ_FLAGS));

async function asEntryFile<T>(path: string, work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (cause) {
    if (hasSystemCode(cause, 'ENOENT')) return undefined;
    // ELOOP: a symbolic link, ENXIO: a socket.
    if (hasSystemCode(cause, 'ELOOP', 'ENXIO')) throw corrupt(path, 'is no regular file', cause);
    throw cause;
  }
}

async function writeFully(
  handle: FileHandle,
  { offset, bytes }: { readonly offset: number; readonly bytes: Uint8Array },
  signal?: AbortSignal,
): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    signal?.throwIfAborted();
    const length = Math.min(STEP_BYTES, bytes.byteLength - done);
    const { bytesWritten } = await handle.write(bytes, done, length, offset + done);
    done += bytesWritten;
  }
}

function makeTail(key: string, valueBytes: number, lifetime: Lifetime | undefined): Buffer {
  const trailer = Buffer.alloc(TRAILER_BYTES);
  trailer.write(key, 'latin1');
  trailer.writeBigUInt64LE(BigInt(valueBytes), LENGTH_AT);
  (lifetime ? MAGIC_WITH_LIFETIME : MAGIC).copy(trailer, MAGIC_AT);
  return lifetime ? Buffer.concat([packLifetime(lifetime), trailer]) : trailer;
}

/** Reads the last bytes of a file of `fileBytes` bytes. */
function readTail(tail: Buffer, fileBytes: number, path: string): Pick<OpenEntry, 'key' | 'valueBytes' | 'isOver'> {
  const trailer = tail.subarray(-TRAILER_BYTES);
  const hasLifetime = MAGIC_WITH_LIFETIME.equals(trailer.subarray(MAGIC_AT));
  const valueBytes = fileBytes - TRAILER_BYTES - (hasLifetime ? LIFETIME_BYTES : 0);
  const isWhole = hasLifetime || MAGIC.equals(trailer.subarray(MAGIC_AT));
  if (!isWhole || trailer.readBigUInt64LE(LENGTH_AT) !== BigInt(valueBytes)) throw corrupt(path, 'is cut short or overwritten');
  const key = trailer.toString('latin1', 0, MAX_KEY_BYTES).replace(/\0[^]*/, '');
  // The addon compares the padding with the key, so that must be right here too.
  if (!trailer.subarray(key.length, MAX_KEY_BYTES).equals(PADDING.subarray(key.length))) throw corrupt(path, 'is overwritten');
  return { key, valueBytes, isOver: hasLifetime && isOver(unpackLifetime(tail)) };
}
