// The way of the filesystem connector to the addon, which connectors do not name.
import { native } from '../codec/native.js';

/** What `readEntryFile` is to read. */
export interface EntryFileRead {
  /** The key, padded as in the trailer. */
  readonly key: Uint8Array;
  /** Gets the last bytes of the file: room for a lifetime and a trailer. */
  readonly tail: Uint8Array;
  readonly offset: number;
  readonly length: number;
  readonly into: Uint8Array;
}

/**
 * Reads a part of an entry file's value into `into`, and the last bytes of the file into `tail`, in one trip to a thread. Gives the bytes of
 * the file (NaN if it is no regular one) and those read of the value; undefined if there is no file. Nothing is read of a value that `into`
 * is too small for, or whose trailer is not that of a whole entry of this key. Rejects with a system error, or KV_ADDON_MISSING.
 */
export async function readEntryFile(path: string, { key, tail, offset, length, into }: EntryFileRead): Promise<readonly [number, number] | undefined> {
  return native().readEntry(path, key, tail, offset, length, into);
}
