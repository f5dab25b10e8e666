// An output appears whole under its name or not at all: it is written beside it and moved.
import { randomUUID } from 'node:crypto';
import { link, lstat, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { KvError } from '../../../lib/errors.js';
import type { CallOptions } from '../../../lib/store/connector.js';
import { toFileError } from './file-error.js';

/** Where an output goes. */
export interface OutputOptions extends CallOptions {
  readonly path: string;
  /** Replace a file that is there. */
  readonly force: boolean;
}

const STEP_BYTES = 16 << 20;
const NO_LINKS: ReadonlySet<unknown> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EXDEV']);

/**
 * Rejects with what `writeOutputFile` would find at once: KV_EXISTS, KV_PERMISSION, KV_INVALID_INPUT. Call it before long work.
 */
export async function checkOutput({ path, force }: OutputOptions): Promise<void> {
  await describingErrors(path, async () => {
    const directory = await stat(dirname(path));
    if (!directory.isDirectory()) throw new KvError('KV_INVALID_INPUT', `${dirname(path)} is no directory; choose another path`);
    const there = await statIfThere(path);
    if (there === undefined) return;
    if (!there.isFile()) throw new KvError('KV_INVALID_INPUT', `${path} is no regular file; choose another path`);
    if (!force) throw new KvError('KV_EXISTS', `${path} exists; use --force to overwrite it, or choose another path`);
  });
}

/** Writes the pieces one after the other. Rejects like `checkOutput`, with KV_NO_SPACE, or the signal's reason; then nothing is left. */
export async function writeOutputFile(pieces: readonly Uint8Array[], options: OutputOptions): Promise<void> {
  await checkOutput(options);
  const { force, signal } = options;
  await describingErrors(options.path, async () => {
    const path = force ? await realpathIfThere(options.path) : options.path;
    const temp = join(dirname(path), `.${basename(path).slice(0, 64)}.${randomUUID()}.tmp`);
    try {
      await writeFile(temp, pieces, signal);
      signal?.throwIfAborted();
      await (force ? rename(temp, path) : publishNew(temp, path));
    } finally {
      await rm(temp, { force: true });
    }
  });
}

async function writeFile(temp: string, pieces: readonly Uint8Array[], signal: AbortSignal | undefined): Promise<void> {
  const handle = await open(temp, 'wx', 0o666);
  try {
    for (const piece of pieces) {
      for (let done = 0; done < piece.length; ) {
        signal?.throwIfAborted();
        const { bytesWritten } = await handle.write(piece, done, Math.min(STEP_BYTES, piece.length - done));
        done += bytesWritten;
      }
    }
    // Else a power cut after the move could leave an empty file under the name.
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

// A link, unlike a rename, never replaces what came there meanwhile.
async function publishNew(temp: string, path: string): Promise<void> {
  try {
    await link(temp, path);
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && NO_LINKS.has(cause.code))) throw cause;
    if ((await statIfThere(path)) !== undefined) throw new KvError('KV_EXISTS', `${path} exists; use --force to overwrite it, or choose another path`);
    await rename(temp, path);
  }
}

// A dangling link counts as there: writing through it is not what anybody asked for.
async function statIfThere(path: string) {
  return (await unlessMissing(stat(path))) ?? unlessMissing(lstat(path));
}

async function realpathIfThere(path: string): Promise<string> {
  return (await unlessMissing(realpath(path))) ?? path;
}

async function unlessMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    throw cause;
  }
}

async function describingErrors(path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (cause) {
    throw toFileError(cause, path);
  }
}
