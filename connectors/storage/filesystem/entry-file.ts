// An entry file is the value, then a trailer of fixed size:
//
//   key, padded with zeros   512 bytes
//   value length               8 bytes, little-endian
//   magic "kvreel.1"           8 bytes
//
// The value starts at byte 0, so a range of it is the same range of the file and needs one read. The trailer is written last
// and says the key: a file that was cut short, zero-filled at its end, or put in another key's place is noticed.
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { KvError } from '../../../lib/errors.js';
import { MAX_KEY_BYTES, type ReadPlace } from '../arguments.js';
import { hasSystemCode } from './errors.js';

const MAGIC = Buffer.from('kvreel.1', 'latin1');
const LENGTH_AT = MAX_KEY_BYTES;
const MAGIC_AT = LENGTH_AT + 8;
const TRAILER_BYTES = MAGIC_AT + MAGIC.byteLength;

/** Bytes moved between two looks at the abort signal. Large, because each move costs a trip through the thread pool. */
const STEP_BYTES = 16 << 20;

/** O_NONBLOCK: opening a FIFO that stands in an entry's place must not wait for a writer. */
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const CREATE_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** The file for `key` under `root`. Only hex digits of the key's SHA-256 reach the path, never the key. */
export function entryPath(root: string, key: string): string {
  const digest = createHash('sha256').update(key).digest('hex');
  return join(root, digest.slice(0, 2), digest.slice(2, 4), digest);
}

/** An entry file open for reading; whoever opened it closes `handle`. */
export interface OpenEntry {
  readonly handle: FileHandle;
  readonly path: string;
  readonly key: string;
  readonly valueBytes: number;
}

/** Opens an entry and reads its trailer; undefined if there is no file. Rejects with KV_CORRUPT_OBJECT if it is no entry. */
export async function openEntry(path: string, signal?: AbortSignal): Promise<OpenEntry | undefined> {
  const handle = await openForReading(path);
  if (handle === undefined) return undefined;
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw corrupt(path, 'is no regular file');
    const valueBytes = stats.size - TRAILER_BYTES;
    if (valueBytes < 0) throw corrupt(path, 'is too short to be an entry');
    const trailer = Buffer.alloc(TRAILER_BYTES);
    await readFully({ handle, path }, { offset: valueBytes, target: trailer }, signal);
    return { handle, path, key: readKey(trailer, valueBytes, path), valueBytes };
  } catch (cause) {
    await handle.close();
    throw cause;
  }
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

/** Writes a new entry file; rejects with the system's EEXIST if there is one. `durable` waits until the disk has it. */
export async function writeEntry(
  path: string,
  key: string,
  value: Uint8Array,
  options: { readonly durable: boolean; readonly signal: AbortSignal | undefined },
): Promise<void> {
  const handle = await open(path, CREATE_FLAGS, 0o600);
  try {
    await writeFully(handle, { offset: 0, bytes: value }, options.signal);
    await writeFully(handle, { offset: value.byteLength, bytes: makeTrailer(key, value.byteLength) }, options.signal);
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

async function openForReading(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, READ_FLAGS);
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

function makeTrailer(key: string, valueBytes: number): Buffer {
  const trailer = Buffer.alloc(TRAILER_BYTES);
  trailer.write(key, 'latin1');
  trailer.writeBigUInt64LE(BigInt(valueBytes), LENGTH_AT);
  MAGIC.copy(trailer, MAGIC_AT);
  return trailer;
}

function readKey(trailer: Buffer, valueBytes: number, path: string): string {
  const isWhole = MAGIC.equals(trailer.subarray(MAGIC_AT)) && trailer.readBigUInt64LE(LENGTH_AT) === BigInt(valueBytes);
  if (!isWhole) throw corrupt(path, 'is cut short or overwritten');
  const end = trailer.indexOf(0);
  return trailer.toString('latin1', 0, Math.min(end === -1 ? MAX_KEY_BYTES : end, MAX_KEY_BYTES));
}
