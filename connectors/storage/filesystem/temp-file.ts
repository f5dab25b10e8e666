// A temp file is named <host>-<pid>-<uuid>.tmp, so that a later process can tell whether its writer is still alive.
import { createHash, randomUUID } from 'node:crypto';
import { lstat, readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { SweepResult } from '../../../lib/store/connector.js';
import { hasSystemCode, unlessMissing } from './errors.js';

const NAME = /^(?<host>[0-9a-f]{16})-(?<pid>\d+)-[0-9a-f-]{36}\.tmp$/;
const ONE_DAY_MS = 24 * 60 * 60 * 1000;

const HOST = createHash('sha256').update(hostname()).digest('hex').slice(0, 16);

/** A path in `directory` that no other call, process or host uses. */
export function tempPath(directory: string): string {
  return join(directory, `${HOST}-${process.pid}-${randomUUID()}.tmp`);
}

/** Removes the temp files that dead processes left in `directory`; files it did not name stay. */
export async function sweepTempFiles(directory: string): Promise<SweepResult> {
  const swept = { removed: 0, bytes: 0 };
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    const stats = await unlessMissing(lstat(path)); // missing: published or removed meanwhile
    if (stats === undefined || !isStale(name, Date.now() - stats.mtimeMs)) continue;
    await rm(path, { force: true });
    swept.removed++;
    swept.bytes += stats.size;
  }
  return swept;
}

function isStale(name: string, ageMs: number): boolean {
  const { host, pid } = NAME.exec(name)?.groups ?? {};
  if (host === undefined || pid === undefined) return false;
  if (host === HOST && Number(pid) !== process.pid) return !isAlive(Number(pid));
  // Ours is either a put that runs now or left by an earlier process with our pid: containers start as pid 1 each time.
  // Another host's processes cannot be asked, but no put goes a day without a write.
  return ageMs > (host === HOST ? process.uptime() * 1000 : ONE_DAY_MS);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (cause) {
    return !hasSystemCode(cause, 'ESRCH'); // EPERM: alive, and another user's
  }
}
