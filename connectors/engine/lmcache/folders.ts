import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KvError } from '../../../lib/errors.js';
import type { PrefixHash } from '../../../lib/key/hash-chain.js';
import { toFileError } from '../cli/file-error.js';
import { writeOutputFile } from '../cli/output-file.js';
import { MAX_OBJECT_BYTES, type Place } from './place.js';

/** Files in the folders that LMCache's `fs` was given, in its order: with several, the chunk hash says which. */
export function folders(paths: readonly string[]): Place {
  return {
    label: paths.join(','),

    async *list({ signal }) {
      for (const path of paths) {
        const entries = await describing(path, () => readdir(path, { withFileTypes: true }));
        for (const entry of entries) {
          signal?.throwIfAborted();
          // Temporary files and LMCache's folder of them have no such end.
          if (entry.isFile() && entry.name.endsWith('.data')) yield entry.name;
        }
      }
    },

    async get(name, options) {
      for (const path of paths) {
        const bytes = await describing(join(path, name), () => readIfThere(join(path, name), options.signal));
        if (bytes !== undefined) return bytes;
      }
      return undefined;
    },

    async put(name, pieces, { hash, signal }) {
      const folder = folderOf(paths, hash);
      // All of them, as LMCache does at its start: a folder that is missing would look like a mistake.
      for (const path of paths) await describing(path, () => mkdir(path, { recursive: true }));
      await writeOutputFile(pieces, { path: join(folder, name), force: true, ...(signal && { signal }) });
    },

    async close() {},
  };
}

/** LMCache's choice: the absolute value of the hash as a number, modulo the number of folders. */
export function folderOf(paths: readonly string[], hash: PrefixHash): string {
  const index = paths.length === 1 ? 0 : Number(BigInt(`0x${hash.replace('-', '')}`) % BigInt(paths.length));
  return paths[index] ?? '';
}

async function readIfThere(path: string, signal: AbortSignal | undefined): Promise<Uint8Array | undefined> {
  try {
    const { size } = await stat(path);
    if (size > MAX_OBJECT_BYTES) throw new KvError('KV_UNSUPPORTED', `${path} has ${size} bytes, more than LMCache stores in one object`);
    return await readFile(path, { signal });
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    throw cause;
  }
}

async function describing<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw toFileError(cause, path);
  }
}
