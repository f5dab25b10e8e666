import { once } from 'node:events';
import { lstat, stat, unlink } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { KvError } from '../../../lib/errors.js';

/**
 * Listens on a Unix socket that only this user may connect to (mode 0600). The socket of a daemon that is dead is replaced. Rejects with
 * KV_EXISTS where a daemon lives or something else has the name, KV_PERMISSION or KV_INVALID_INPUT where it cannot be made.
 */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  await checkFolder(path); // Node calls a folder that is not there EACCES
  await removeDeadSocket(path);
  // The mask holds while the system makes the file, which `listen` does before it returns.
  const mask = process.umask(0o177);
  try {
    server.listen({ path });
  } finally {
    process.umask(mask);
  }
  await listening(server, path);
}

/** Listens on TCP. Rejects as `listenOnSocket`. */
export async function listenOnPort(server: Server, host: string, port: number): Promise<void> {
  server.listen({ host, port });
  await listening(server, `${host}:${port}`);
}

async function listening(server: Server, place: string): Promise<void> {
  try {
    await once(server, 'listening');
  } catch (error) {
    throw listenError(error, place);
  }
}

async function checkFolder(path: string): Promise<void> {
  const folder = await stat(dirname(path)).catch(() => undefined);
  if (folder?.isDirectory() !== true) throw new KvError('KV_INVALID_INPUT', `cannot listen on ${path}: its directory does not exist; make it, or choose another path`);
}

async function removeDeadSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) throw new KvError('KV_EXISTS', `${path} exists and is no socket; choose another path`);
  if (await isAlive(path)) throw new KvError('KV_EXISTS', `a daemon listens on ${path} already; stop it, or choose another path`);
  await unlink(path).catch(() => undefined);
}

async function isAlive(path: string): Promise<boolean> {
  const probe = connect({ path });
  try {
    await once(probe, 'connect');
    return true;
  } catch (error) {
    // Whoever may not connect cannot tell, and must not remove it.
    return codeOf(error) !== 'ECONNREFUSED' && codeOf(error) !== 'ENOENT';
  } finally {
    probe.destroy();
  }
}

const ANSWERS: Readonly<Record<string, readonly ['KV_EXISTS' | 'KV_PERMISSION' | 'KV_INVALID_INPUT', string]>> = {
  EADDRINUSE: ['KV_EXISTS', 'another process listens there; stop it, or choose another place'],
  EACCES: ['KV_PERMISSION', 'this user may not listen there; choose another place'],
  EPERM: ['KV_PERMISSION', 'this user may not listen there; choose another place'],
  ENAMETOOLONG: ['KV_INVALID_INPUT', 'the path is too long for a socket (about 100 characters); choose a shorter one'],
  EINVAL: ['KV_INVALID_INPUT', 'the path is too long for a socket (about 100 characters); choose a shorter one'],
  EADDRNOTAVAIL: ['KV_INVALID_INPUT', 'this machine has no such address'],
  ENOTFOUND: ['KV_INVALID_INPUT', 'there is no such host'],
};

function listenError(cause: unknown, place: string): KvError {
  const name = codeOf(cause);
  const [code, advice] = ANSWERS[name] ?? ['KV_INVALID_INPUT', 'the system refuses'];
  return new KvError(code, `cannot listen on ${place}: ${advice} (${name})`, { cause });
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
}
