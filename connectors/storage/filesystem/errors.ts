import { constants } from 'node:os';
import { KvError, type KvErrorCode } from '../../../lib/errors.js';

/** Whether the operating system gave `code` (`ENOENT`, ...) as the reason. */
export function hasSystemCode(cause: unknown, ...codes: readonly string[]): boolean {
  return isSystemError(cause) && codes.includes(cause.code);
}

/** The outcome of `work`, or undefined if what it asked for is not there. */
export async function unlessMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (cause) {
    if (hasSystemCode(cause, 'ENOENT')) return undefined;
    throw cause;
  }
}

/** A system error as the KvError that tells what to do; everything else (aborts, mistakes, KvErrors) as it is. */
export function toConnectorError(cause: unknown, attempt: string): unknown {
  if (!isSystemError(cause)) return cause;
  const name = nameOf(cause);
  const [code, advice] = ANSWERS[name] ?? UNFORESEEN;
  return new KvError(code, `filesystem could not ${attempt}: ${advice} (${name})`, { cause });
}

/** Node has no name for a full quota: its `code` reads "Unknown system error -122". */
function nameOf({ code, errno }: SystemError): string {
  return errno === -constants.errno.EDQUOT ? 'EDQUOT' : code;
}

type Answer = readonly [KvErrorCode, string];

const NO_SPACE: Answer = ['KV_NO_SPACE', 'the disk or quota is full; delete values or move the store to a larger disk'];
const NO_PERMISSION: Answer = ['KV_PERMISSION', 'this user may not; give it read and write permission on the directory or choose another `path`'];
const NO_DESCRIPTORS: Answer = ['KV_CONNECTOR_UNAVAILABLE', 'too many files are open; raise the limit (ulimit -n) or make fewer calls at once'];
const NOT_A_DIRECTORY: Answer = ['KV_CONNECTOR_REFUSED', 'something in the path is no directory; move it away or choose another `path`'];
const UNFORESEEN: Answer = ['KV_CONNECTOR_UNAVAILABLE', 'the file system failed; try again, and check the disk and the system log if it persists'];

const ANSWERS: Readonly<Record<string, Answer>> = {
  ENOSPC: NO_SPACE,
  EDQUOT: NO_SPACE,
  EACCES: NO_PERMISSION,
  EPERM: NO_PERMISSION,
  EROFS: ['KV_PERMISSION', 'the file system is mounted read-only; mount it writable or choose another `path`'],
  EMFILE: NO_DESCRIPTORS,
  ENFILE: NO_DESCRIPTORS,
  EFBIG: ['KV_CONNECTOR_REFUSED', 'the value passes the largest file size allowed here; raise the limit (ulimit -f) or store smaller chunks'],
  EEXIST: NOT_A_DIRECTORY,
  ENOTDIR: NOT_A_DIRECTORY,
  EISDIR: ['KV_CORRUPT_OBJECT', 'a directory stands where the entry belongs; remove it'],
  // Reads take ENOENT as a miss, so here it means that the ground vanished under a put. The next put makes a new directory.
  ENOENT: ['KV_CONNECTOR_UNAVAILABLE', 'the directory was removed meanwhile; try again'],
};

interface SystemError extends Error {
  readonly code: string;
  readonly errno: number;
}

function isSystemError(cause: unknown): cause is SystemError {
  return cause instanceof Error && 'errno' in cause && 'code' in cause && typeof cause.code === 'string';
}
