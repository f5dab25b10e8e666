import { open, type FileHandle } from 'node:fs/promises';
import { KvError } from '../../../lib/errors.js';
import type { CallOptions } from '../../../lib/store/connector.js';
import { invalid, LENGTH_BYTES, MAX_HEADER_BYTES, parseDirectory, type SafetensorsFile } from '../capture/safetensors.js';
import { toFileError } from './file-error.js';

// Between two looks at the abort signal; also below what one read of the operating system gives at most.
const STEP_BYTES = 64 << 20;

/** A regular file open for reading. */
export interface InputFile {
  readonly bytes: number;
  /** Exactly `length` bytes from `offset` on. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** Lends an open file to `work`. Rejects with KV_INVALID_INPUT if there is no such file or it is no regular one, KV_PERMISSION, KV_OUT_OF_MEMORY. */
export async function withInputFile<T>(path: string, options: CallOptions, work: (file: InputFile) => Promise<T>): Promise<T> {
  const handle = await attempt(path, () => open(path, 'r'));
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw invalid(path, 'it is no regular file');
    return await work({ bytes: stats.size, read: (offset, length) => attempt(path, () => readExactly(handle, path, { offset, length }, options)) });
  } finally {
    await handle.close();
  }
}

/** The whole file in memory. */
export function readWholeFile(path: string, options: CallOptions): Promise<Uint8Array> {
  return withInputFile(path, options, (file) => file.read(0, file.bytes));
}

/** Reads a .safetensors file; its header is checked before memory for the data is taken. */
export function readSafetensors(path: string, options: CallOptions): Promise<SafetensorsFile> {
  return withInputFile(path, options, async (file) => {
    if (file.bytes === 0) throw invalid(path, 'it is empty');
    if (file.bytes < LENGTH_BYTES) throw invalid(path, `it has ${file.bytes} bytes, fewer than the length of a header`);
    const start = await file.read(0, LENGTH_BYTES);
    const headerBytes = new DataView(start.buffer, start.byteOffset, start.byteLength).getBigUint64(0, true);
    if (headerBytes > BigInt(MAX_HEADER_BYTES)) throw invalid(path, `its header would have ${headerBytes} bytes, so it is no safetensors file`);
    const dataAt = LENGTH_BYTES + Number(headerBytes);
    if (dataAt > file.bytes) throw invalid(path, 'it ends inside its header: it was cut short, or is no safetensors file');
    const header = await file.read(LENGTH_BYTES, Number(headerBytes));
    const directory = parseDirectory(header, path);
    const data = file.bytes - dataAt;
    if (directory.dataBytes !== data) throw invalid(path, `its tensors take ${directory.dataBytes} bytes and it has ${data}: it was cut short or added to`);
    return { name: path, header, directory, data: await file.read(dataAt, data) };
  });
}

async function readExactly(handle: FileHandle, path: string, range: { offset: number; length: number }, { signal }: CallOptions): Promise<Uint8Array> {
  const bytes = allocate(path, range.length);
  for (let done = 0; done < bytes.length; ) {
    signal?.throwIfAborted();
    const { bytesRead } = await handle.read(bytes, done, Math.min(STEP_BYTES, bytes.length - done), range.offset + done);
    if (bytesRead === 0) throw invalid(path, 'it became shorter while it was read');
    done += bytesRead;
  }
  return bytes;
}

function allocate(path: string, bytes: number): Uint8Array {
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw new KvError('KV_OUT_OF_MEMORY', `${path} needs ${bytes} bytes of memory, which there are not; use a smaller file or a larger machine`, { cause });
  }
}

async function attempt<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw toFileError(cause, path);
  }
}
