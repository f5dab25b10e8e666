import { KvError, type KvErrorCode } from '../../../lib/errors.js';

const ANSWERS: Readonly<Record<string, readonly [KvErrorCode, string]>> = {
  ENOENT: ['KV_INVALID_INPUT', 'there is no such file or directory; check the path'],
  ENOTDIR: ['KV_INVALID_INPUT', 'something in the path is no directory; check the path'],
  EISDIR: ['KV_INVALID_INPUT', 'it is a directory; name a file'],
  ENAMETOOLONG: ['KV_INVALID_INPUT', 'the name is too long; choose a shorter one'],
  ELOOP: ['KV_INVALID_INPUT', 'its symbolic links lead in a circle; name the file itself'],
  EACCES: ['KV_PERMISSION', 'this user may not; change its permissions or choose another path'],
  EPERM: ['KV_PERMISSION', 'this user may not; change its permissions or choose another path'],
  EROFS: ['KV_PERMISSION', 'the file system is read-only; choose another path'],
  ENOSPC: ['KV_NO_SPACE', 'the disk is full; free some space or choose another path'],
  EDQUOT: ['KV_NO_SPACE', 'the quota is full; free some space or choose another path'],
  EFBIG: ['KV_NO_SPACE', 'the file is larger than allowed here; raise the limit (ulimit -f)'],
  EEXIST: ['KV_EXISTS', 'it exists; use --force to overwrite it, or choose another path'],
};

/** An error of the operating system as the KvError that tells what to do; everything else as it is. */
export function toFileError(cause: unknown, path: string): unknown {
  if (!(cause instanceof Error && 'syscall' in cause && 'code' in cause && typeof cause.code === 'string')) return cause;
  // Node has no name for a full quota on Linux.
  const name = cause.code.endsWith('-122') ? 'EDQUOT' : cause.code;
  const [code, advice] = ANSWERS[name] ?? ['KV_CONNECTOR_UNAVAILABLE', 'the file system failed; check the disk and the system log'];
  return new KvError(code, `${path}: ${advice} (${name})`, { cause });
}
