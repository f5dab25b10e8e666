// node-llama-cpp hands states out and takes them in as files only. Ours lie in memory (tmpfs) if there is room, and on Linux have no name
// as soon as they are open: even a process that is killed leaves none behind.
import { existsSync, readSync } from 'node:fs';
import { mkdtemp, open, rm, statfs, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MEMORY_FOLDER = '/dev/shm';
/** The estimate is of the state alone, and others fill the same memory meanwhile. */
const ROOM_FACTOR = 1.25;

/** A file for one state, open for reading and writing. */
export interface StateFile {
  /** For node-llama-cpp, to open it once more. */
  readonly path: string;
  readonly handle: FileHandle;
  /** Reads some bytes at once; for small parts. */
  read(offset: number, length: number): Uint8Array;
}

/** Lends a file for about `expectedBytes` bytes, readable by this user alone, until `work` settles. Rejects with a system error where there is no place for one. */
export async function withStateFile<T>(expectedBytes: number, work: (file: StateFile) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join((await hasRoom(MEMORY_FOLDER, expectedBytes)) ? MEMORY_FOLDER : tmpdir(), 'kvreel-llama-'));
  try {
    const path = join(folder, 'state');
    const handle = await open(path, 'wx+', 0o600);
    try {
      const nameless = `/proc/self/fd/${handle.fd}`;
      const isNameless = existsSync(nameless);
      if (isNameless) await rm(folder, { recursive: true });
      return await work({ path: isNameless ? nameless : path, handle, read: (offset, length) => readNow(handle, offset, length) });
    } finally {
      await handle.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function hasRoom(folder: string, bytes: number): Promise<boolean> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize > ROOM_FACTOR * bytes;
  } catch {
    return false; // not a Linux
  }
}

function readNow({ fd }: FileHandle, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const read = readSync(fd, bytes, done, length - done, offset + done);
    if (read === 0) break;
    done += read;
  }
  return bytes.subarray(0, done);
}
