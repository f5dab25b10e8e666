// The entry files of one store, found by going through its directories.
import { lstat, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { KvError } from '../../../lib/errors.js';
import type { ListedValue, SweepResult } from '../../../lib/store/connector.js';
import { entryPath, openEntry, type OpenEntry } from './entry-file.js';
import { unlessMissing } from './errors.js';

const FAN_OUT_NAME = /^[0-9a-f]{2}$/;
const ENTRY_NAME = /^[0-9a-f]{64}$/;

/** Entries of one directory that are looked at side by side. More than the threads that Node gives to files is of no use. */
const AT_ONCE = 8;

/** The directories that hold entries. */
export async function entryDirectories(root: string): Promise<string[]> {
  const names = (await unlessMissing(readdir(root))) ?? [];
  return names.filter((name) => FAN_OUT_NAME.test(name)).map((name) => join(root, name));
}

/** The values of one directory. A damaged entry has no key to list, so it is left out; `get` reports it. */
export async function valuesIn(root: string, directory: string, signal: AbortSignal | undefined): Promise<ListedValue[]> {
  return eachEntry(directory, signal, async (path) => {
    const entry = await unlessCorrupt(openEntry(path, signal));
    if (entry === undefined) return undefined;
    return withEntry(entry, async ({ key, valueBytes, storedAtMs }) => (entryPath(root, key) === path ? { key, bytes: valueBytes, storedAtMs } : undefined));
  });
}

/** Removes the entries of one directory that no `get` gives. What is a directory itself stays. */
export async function sweepEntries(root: string, directory: string, signal: AbortSignal | undefined): Promise<SweepResult> {
  const removed = await eachEntry(directory, signal, async (path) => {
    const stats = await unlessMissing(lstat(path));
    if (stats === undefined || stats.isDirectory()) return undefined;
    const entry = await unlessCorrupt(openEntry(path, signal));
    await entry?.handle.close();
    const isGood = entry !== undefined && !entry.isOver && entryPath(root, entry.key) === path;
    return !isGood && (await removeIfStill(path, stats.ino)) ? stats.size : undefined;
  });
  return { removed: removed.length, bytes: removed.reduce((sum, bytes) => sum + bytes, 0) };
}

/**
 * Lends an open entry to `work` and closes it. One whose time is over is removed instead, and gives undefined; where it cannot be
 * removed, it goes on being a miss.
 */
export async function withEntry<T>(entry: OpenEntry, work: (entry: OpenEntry) => Promise<T>): Promise<T | undefined> {
  try {
    if (!entry.isOver) return await work(entry);
    await removeIfStill(entry.path, entry.inode).catch(() => false);
    return undefined;
  } finally {
    await entry.handle.close();
  }
}

/** The outcome of `work`, or undefined if it met a damaged entry. */
export async function unlessCorrupt<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (cause) {
    if (cause instanceof KvError && cause.code === 'KV_CORRUPT_OBJECT') return undefined;
    throw cause;
  }
}

/** Removes a file unless another one has taken its place. One that does so between the two calls is lost, which is a miss. */
async function removeIfStill(path: string, inode: number): Promise<boolean> {
  const stats = await unlessMissing(lstat(path));
  if (stats?.ino !== inode) return false;
  return (await unlessMissing(unlink(path).then(() => true))) ?? false;
}

async function eachEntry<T>(directory: string, signal: AbortSignal | undefined, look: (path: string) => Promise<T | undefined>): Promise<T[]> {
  const names = (await unlessMissing(readdir(directory))) ?? [];
  const paths = names.filter((name) => ENTRY_NAME.test(name)).map((name) => join(directory, name));
  const found: T[] = [];
  for (let begin = 0; begin < paths.length; begin += AT_ONCE) {
    signal?.throwIfAborted();
    for (const result of await Promise.all(paths.slice(begin, begin + AT_ONCE).map(look))) if (result !== undefined) found.push(result);
  }
  return found;
}
